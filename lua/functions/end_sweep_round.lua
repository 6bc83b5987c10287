-- end_sweep_round: records that a sweep of a partition has reached its end (sweep_cursor.lua).
--
-- Writes: the sweeps' hash.
return function(keys, kind, interval_ms)
  local now, hash = transaction.open(keys).ms, keys[keyslots.FIRST_WORKFLOW]
  transaction.drop_other(hash, "hash")
  local began = tonumber(command("HGET", hash, kind .. ":began") or nil) or 0
  local took = integer.text(max(now - began, 0))
  command("HSET", hash, kind .. ":ended", integer.text(now), kind .. ":took", took)
  command("HDEL", hash, kind .. ":at")
  -- The clock was set back since it began, so nobody knows how long it took.
  return began <= now and max(began + interval_ms - now, 0) or 0
end
