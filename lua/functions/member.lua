-- member: a daemon tells that it runs, or that it stops; how many do, and which of them it is.
--
-- Keys: the daemons (a sorted set by when they were last seen), the meta record.
-- Arguments: the daemon's id, for how long it counts without being seen again (ms), "1" when it stops.
-- Reply: {how many daemons there are, how many ids stand before this one, how many partitions}.
-- Bound: an id of 16 bytes for each daemon seen in the last seconds, about 0.1 us each.
-- Writes: the daemons; those that were not seen for that long are dropped.
return function(keys, args)
  local now = transaction.open(keys).ms
  transaction.drop_other(keys[1], "zset")
  if args[3] == "1" then
    command("ZREM", keys[1], args[1])
  else
    command("ZADD", keys[1], transaction.number(now), args[1])
  end
  command("ZREMRANGEBYSCORE", keys[1], "-inf", "(" .. transaction.number(now - args[2]))
  command("ZREMRANGEBYSCORE", keys[1], "(" .. transaction.number(now + args[2]), "+inf") -- by a clock since set back
  local members, before = command("ZRANGE", keys[1], "0", "-1"), 0
  for i = 1, #members do
    before = before + (members[i] < args[1] and 1 or 0)
  end
  return { #members, before, transaction.namespace(keys[2])[1] }
end
