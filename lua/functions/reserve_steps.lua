-- reserve_steps: reserves the first entries of some queues for a caller that is about to start their steps.
--
-- Reply: entries of the ready queue, "class|order|workflow|step", in the order in which they are to be
--   claimed.
-- Bound: the limit (64), looked for in pages of 500 in all, and 256 queues.
-- Writes: ready queue, reserved entries, served queues. Sent again, it reserves others; the first go back
--   when their reservation runs out.
return function(keys, limit, queues)
  local tx = transaction.open(keys)
  local found = queue.take(tx, queues, limit, {})
  flush.commit(tx)
  return found
end
