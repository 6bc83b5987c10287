-- register_worker: a worker tells that it runs and what it does, or that it stops.
--
-- Its home partition has a sorted set of the workers by when they were last seen, and a hash with what each tells.
-- Bound: 100 workers are forgotten in a call: those not seen in an hour, and of too many the longest unseen.
-- Writes: the workers, and what they tell.
local FORGOTTEN_PER_CALL = 100

local function forget(workers, about, names)
  if #names > 0 then
    command("HDEL", about, unpack(names))
    command("ZREM", workers, unpack(names))
  end
end

local function forget_unseen(workers, about, now)
  local unseen = command(
    "ZRANGEBYSCORE", workers, "-inf", integer.text(now - states.WORKERS_KEPT_MS), "LIMIT", "0", FORGOTTEN_PER_CALL
  )
  forget(workers, about, unseen)
  local over = min(command("ZCARD", workers) - states.WORKERS_KEPT, FORGOTTEN_PER_CALL)
  if over > 0 then
    forget(workers, about, command("ZRANGE", workers, "0", integer.text(over - 1)))
  end
end

return function(keys, worker, about, stops)
  local workers, told, now = keys[1], keys[2], transaction.open(keys).ms
  transaction.drop_other(workers, "zset")
  transaction.drop_other(told, "hash")
  if stops then
    forget(workers, told, { worker })
  else
    -- In this order: a worker without a record is forgotten in time, a record without a worker never.
    command("ZADD", workers, integer.text(now), worker)
    command("HSET", told, worker, about)
  end
  forget_unseen(workers, told, now)
end
