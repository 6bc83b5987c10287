-- timers: what is due in a partition, the longest overdue first.
--
-- Keys: the partition's (keyslots).
-- Arguments: how many to leave out, and how many at most.
-- Reply: {members of the timers, ...}: "r|workflow|step", a retry; "l|workflow|step", a lease;
--   "w|workflow", waits; "x|workflow", the end of its retention; "s|digest", a topic's hand-off, or the
--   end of its oldest signal. Reads only.
return function(keys, args)
  local now = call.number(call.open(keys).ms)
  return command("ZRANGEBYSCORE", keys[keyslots.TIMERS], "-inf", now, "LIMIT", args[1], args[2])
end
