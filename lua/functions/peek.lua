-- peek: the first entries of some queues, which stay where they are.
--
-- Keys: the partition's (keyslots).
-- Arguments: how many at most, then the queues' names.
-- Reply: entries of the ready queue, "class|order|workflow|step", in the order in which they are to be
--   claimed.
-- Writes: ready queue and reserved entries, where nobody has come back for some; served queues. Sent twice,
--   it does nothing more.
return function(keys, args)
  local tx = transaction.open(keys)
  local found = queue.peek(tx, { unpack(args, 2) }, tonumber(args[1]))
  flush.commit(tx)
  return found
end
