-- block_on_missing_result: gives unstarted steps back that cannot run as long as a result is missing which
-- their input refers to; until then they are pending.
--
-- Bound: 64 claims.
-- Writes: records, counts, ready queue, timers, statistics. Sent twice, it finds the leases lost, which they
--   are.
-- Publishes: workflow_terminal.
return function(tx, held)
  return leases.give_back(tx, held, claims.block)
end
