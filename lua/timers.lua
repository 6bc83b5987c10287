-- timers: what is due in a partition, the longest overdue first.
--
-- Keys: the partition's (keyslots).
-- Arguments: how many at most; how many to leave out, and the last of these, or "0" and "". They are left
--   out as long as that one stands in that place.
-- Reply: {how many were left out, milliseconds until the next that is not due yet or "", members, ...}, such
--   as "r|workflow|step", a retry; "l|workflow|step", a lease; "w|workflow", waits; "u|workflow", what is
--   left to be walked; "x|workflow", the end of its retention; "s|digest", a topic's hand-off, or the end
--   of its oldest signal. Reads only.
return function(keys, args)
  local timers, call_ = keys[keyslots.TIMERS], call.open(keys)
  local now = call.number(call_.ms)
  local left_out = args[2]
  if left_out ~= "0" and command("ZRANK", timers, args[3]) ~= left_out - 1 then
    left_out = "0"
  end
  local due = command("ZRANGEBYSCORE", timers, "-inf", now, "LIMIT", left_out, args[1])
  local next_ = command("ZRANGEBYSCORE", timers, "(" .. now, "+inf", "WITHSCORES", "LIMIT", "0", "1")[2]
  return { left_out, next_ and call.number(next_ - call_.ms) or "", unpack(due) }
end
