-- overdue_inserts: staged inserts that were abandoned, and whose time is over.
--
-- Bound: as many as the caller asks for (64).
return function(keys, limit)
  local now = integer.text(transaction.open(keys).ms)
  return command("ZRANGEBYSCORE", keys[keyslots.STAGED], "-inf", "(" .. now, "LIMIT", "0", limit)
end
