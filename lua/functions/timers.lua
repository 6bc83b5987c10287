-- timers: what is due in a partition: the longest overdue, and where these are more than one reply holds, what
-- has become due most lately too, so that a backlog does not hold up what is due now.
--
-- Keys: the partition's (keyslots).
-- Arguments: how many of each at most; how many of the longest overdue to leave out, and the last of these, or
--   "0" and "" (they are left out as long as that one stands in that place); the time (ms) of the caller's
--   last look, or "": what was due by then is no late news.
-- Reply: {how many were left out, milliseconds until the next that is not due yet or "", milliseconds of the
--   server, {members, ...}, {members due of late, the latest first, ...}}. A member is such as
--   "r|workflow|step", a retry; "l|workflow|step", a lease; "w|workflow", waits; "u|workflow", what is
--   left to be walked; "x|workflow", the end of its retention; "s|digest", a topic's hand-off, or the end
--   of its oldest signal. Reads only.
-- Bound: as many members of each kind as the caller asks for (100).
return function(keys, args)
  local timers, tx = keys[keyslots.TIMERS], transaction.open(keys)
  local now = integer.text(tx.ms)
  local left_out = args[2]
  if left_out ~= "0" and command("ZRANK", timers, args[3]) ~= left_out - 1 then
    left_out = "0"
  end
  local due, late = command("ZRANGEBYSCORE", timers, "-inf", now, "LIMIT", left_out, args[1]), {}
  if #due == tonumber(args[1]) then
    local since = args[4] == "" and "-inf" or "(" .. args[4]
    late = command("ZREVRANGEBYSCORE", timers, now, since, "LIMIT", "0", args[1])
  end
  local next_ = command("ZRANGEBYSCORE", timers, "(" .. now, "+inf", "WITHSCORES", "LIMIT", "0", "1")[2]
  return { left_out, next_ and integer.text(next_ - tx.ms) or "", now, due, late }
end
