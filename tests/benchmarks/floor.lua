#!lua name=rwf_floor
-- The floor: only the writes that completing a step cannot do without. Nothing is read, checked,
-- explained or counted, and a child is told to be ready by the caller.
--
-- Keys: workflow hash, payload hash, ready queue. Arguments: step, row, then for each child its name
-- and "1" when it becomes ready.
local function complete(keys, base, args, from, to)
  redis.call("HSET", keys[base], args[from], "c")
  redis.call("HSET", keys[base + 1], "r:" .. args[from], args[from + 1])
  for at = from + 2, to, 2 do
    redis.call("HINCRBY", keys[base], "n:" .. args[at], -1)
    if args[at + 1] == "1" then
      redis.call("ZADD", keys[1], "0", keys[base] .. "default|1000|000000|" .. args[at])
    end
  end
end

redis.register_function("floor_complete", function(keys, args)
  complete(keys, 2, args, 1, #args)
  return "OK"
end)

-- A batch: keys are the ready queue and two for each item; each item has as many arguments.
redis.register_function("floor_batch", function(keys, args)
  local width = tonumber(args[1])
  local item = 0
  for from = 2, #args, width do
    complete(keys, 2 + 2 * item, args, from, from + width - 1)
    item = item + 1
  end
  return "OK"
end)
