-- peek_steps: the first entries of some queues, which are left in the queues.
--
-- Reply: entries of the ready queue, "class|order|workflow|step", in the order in which they are to be
--   claimed.
-- Bound: the limit (64), looked for in pages of 500 in all, and 256 queues.
-- Writes: ready queue and reserved entries, where reservations have run out; served queues. Sent again, it does
--   nothing more.
return function(keys, limit, queues)
  local tx = transaction.open(keys)
  local found = queue.peek(tx, queues, limit)
  flush.commit(tx)
  return found
end
