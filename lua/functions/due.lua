-- due: callbacks of a partition that may be claimed now, those due the longest first.
--
-- Keys: the partition's (keyslots).
-- Arguments: how many to leave out, and how many at most.
-- Reply: members of the outbox, "workflow|number". Reads only.
-- Bound: as many as the caller asks for (500 at most).
return function(keys, args)
  local now = transaction.number(transaction.open(keys).ms)
  return command("ZRANGEBYSCORE", keys[keyslots.OUTBOX], "-inf", now, "LIMIT", args[1], args[2])
end
