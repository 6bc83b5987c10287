-- release_claims: gives unstarted steps back, to the places that they had; their claims have counted nothing.
--
-- Bound: 64 claims.
-- Writes: records, counts, ready queue, timers, statistics. Sent twice, it finds the leases lost, which they
--   are.
-- Publishes: step_available, workflow_terminal.
return function(tx, held)
  return leases.give_back(tx, held, claims.hand_back)
end
