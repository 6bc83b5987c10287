-- queues: how much waits in a partition's queues, and when somebody last asked for their steps.
--
-- Keys: the partition's (keyslots).
-- Arguments: queues' names; without any, those that somebody has ever asked for or that hold a step.
-- Reply: {milliseconds of the server, {queue, waiting steps, the first of them or nil, when somebody last
--   asked or nil}, ...}. Reads only.

-- Finds the queues that hold a step, one jump each.
local function holding(ready, found)
  local from = "-"
  while true do
    local first = command("ZRANGEBYLEX", ready, from, "+", "LIMIT", "0", "1")[1]
    if not first then
      return
    end
    local name = match(first, "^[^:]+")
    found[name] = true
    from = "(" .. name .. ";"
  end
end

return function(keys, args)
  local call_ = call.open(keys)
  local ready, names = keys[keyslots.READY], {}
  for i = 1, #args do
    names[args[i]] = true
  end
  if #args == 0 then
    holding(ready, names)
    local served = command("ZRANGE", keys[keyslots.SERVED], "0", "-1")
    for i = 1, #served do
      names[served[i]] = true
    end
  end
  local reply = { call.number(call_.ms) }
  for name in pairs(names) do
    local from, to = "[" .. name .. ":", "(" .. name .. ";"
    reply[#reply + 1] = {
      name, call.number(command("ZLEXCOUNT", ready, from, to)),
      command("ZRANGEBYLEX", ready, from, to, "LIMIT", "0", "1")[1] or false,
      command("ZSCORE", keys[keyslots.SERVED], name),
    }
  end
  return reply
end
