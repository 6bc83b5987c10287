-- due_callbacks: callbacks of a partition that may be claimed now, the longest overdue first.
--
-- Bound: as many as the caller asks for (500 at most).
return function(keys, skip, limit)
  local now = integer.text(transaction.open(keys).ms)
  return command("ZRANGEBYSCORE", keys[keyslots.OUTBOX], "-inf", now, "LIMIT", skip, limit)
end
