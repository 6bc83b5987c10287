-- block_on_missing_result: gives back unstarted steps whose input refers to a missing result. They are pending until
-- that result exists.
--
-- Bound: 64 claims.
-- Writes: records, counts, ready queue, timers, statistics. Sent again, it reports the
--   leases as lost, as they are by then.
-- Publishes: workflow_terminal.
return function(tx, held)
  return leases.give_back(tx, held, claims.block)
end
