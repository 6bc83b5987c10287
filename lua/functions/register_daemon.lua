-- register_daemon: registers a daemon as running or as stopped. Returns how many run, and its place among them.
--
-- The daemons are a sorted set, ordered by when each was last seen.
-- Bound: an id of 16 bytes for each daemon seen in the last seconds, about 0.1 us each.
-- Writes: the daemons; those that were not seen for as long are dropped.
return function(keys, daemon, counts_for_ms, stops)
  local now = transaction.open(keys).ms
  transaction.drop_other(keys[1], "zset")
  if stops then
    command("ZREM", keys[1], daemon)
  else
    command("ZADD", keys[1], integer.text(now), daemon)
  end
  command("ZREMRANGEBYSCORE", keys[1], "-inf", "(" .. integer.text(now - counts_for_ms))
  command("ZREMRANGEBYSCORE", keys[1], "(" .. integer.text(now + counts_for_ms), "+inf") -- by a clock since set back
  local daemons, before = command("ZRANGE", keys[1], "0", "-1"), 0
  for i = 1, #daemons do
    before = before + (daemons[i] < daemon and 1 or 0)
  end
  return { #daemons, before, transaction.namespace(keys[2])[1] }
end
