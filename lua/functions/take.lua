-- take: reserves the first entries of some queues for whoever is about to start their steps.
--
-- Keys: the partition's (keyslots).
-- Arguments: how many at most, then the queues' names.
-- Reply: entries of the ready queue, "class|order|workflow|step", in the order in which they are to be
--   claimed.
-- Bound: 64 entries, looked for in pages of 500 in all, and 256 queues.
-- Writes: ready queue, reserved entries, served queues. Sent twice, it reserves others; the first go back
--   by themselves.
return function(keys, args)
  local tx = transaction.open(keys)
  local found = queue.take(tx, { unpack(args, 2) }, tonumber(args[1]), {})
  flush.commit(tx)
  return found
end
