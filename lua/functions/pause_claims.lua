-- pause_claims: gives steps that could not be begun back for a while, uncounted (pauses.lua).
--
-- Bound: 64 claims.
-- Writes: records, counts, pauses and their evidence, ready queue, timers, statistics. Sent twice, it finds
--   the leases lost, which they are.
-- Publishes: workflow_terminal.
return function(tx, reason, held)
  return leases.give_back(tx, held, pauses.begin, reason)
end
