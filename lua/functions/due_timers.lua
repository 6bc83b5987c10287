-- due_timers: the timers that are due in a partition, the longest overdue first. Where one reply does not hold all,
-- it also has those that have become due most recently, so that a backlog does not delay them.
--
-- Reply: {how many were left out, milliseconds until the next that is not due yet or "", milliseconds of the
--   server, {members, ...}, {members due of late, the latest first, ...}}. A member is such as
--   "r|workflow|step", a retry; "l|workflow|step", a lease; "w|workflow", waits; "u|workflow", edges
--   left to be walked; "x|workflow", the end of its retention; "s|digest", a topic's hand-off, or the end
--   of its oldest signal. Reads only.
-- Bound: as many members of each kind as the caller asks for (100).
return function(keys, limit, left_out, last_left_out, looked_at_ms)
  local timers, tx = keys[keyslots.TIMERS], transaction.open(keys)
  local now = integer.text(tx.ms)
  if left_out > 0 and command("ZRANK", timers, last_left_out) ~= left_out - 1 then
    left_out = 0
  end
  local due, late = command("ZRANGEBYSCORE", timers, "-inf", now, "LIMIT", left_out, limit), {}
  if #due == limit then
    local since = looked_at_ms and "(" .. integer.text(looked_at_ms) or "-inf"
    late = command("ZREVRANGEBYSCORE", timers, now, since, "LIMIT", "0", limit)
  end
  local following = command("ZRANGEBYSCORE", timers, "(" .. now, "+inf", "WITHSCORES", "LIMIT", "0", "1")[2]
  return { left_out, following and integer.text(following - tx.ms) or "", now, due, late }
end
