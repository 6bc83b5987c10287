-- pause_claims: gives back steps that their worker could not begin, for a while and uncounted (pauses.lua).
--
-- Bound: 64 claims.
-- Writes: records, counts, pauses and their evidence, ready queue, timers, statistics. Sent again, it
--   reports the leases as lost, as they are by then.
-- Publishes: workflow_terminal.
return function(tx, reason, held)
  return leases.give_back(tx, held, pauses.begin, reason)
end
