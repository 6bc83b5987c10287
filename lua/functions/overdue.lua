-- overdue: inserts that were staged and left, and whose time is over.
--
-- Keys: the partition's (keyslots).
-- Arguments: how many at most.
-- Reply: their ids. Reads only.
-- Bound: as many as the caller asks for (64).
return function(keys, args)
  local now = transaction.number(transaction.open(keys).ms)
  return command("ZRANGEBYSCORE", keys[keyslots.STAGED], "-inf", "(" .. now, "LIMIT", "0", args[1])
end
