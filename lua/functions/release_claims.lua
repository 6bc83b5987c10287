-- release_claims: gives back unstarted steps, to their old places in the queue; their claims count no attempt.
--
-- Bound: 64 claims.
-- Writes: records, counts, ready queue, timers, statistics. Sent again, it reports the
--   leases as lost, as they are by then.
-- Publishes: step_available, workflow_terminal.
return function(tx, held)
  return leases.give_back(tx, held, claims.hand_back)
end
