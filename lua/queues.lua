-- queues: how much waits in a partition's queues, and when somebody last asked for their steps.
--
-- Keys: the partition's (keyslots).
-- Arguments: queues' names; without any, those that somebody has ever asked for or that hold a step.
-- Reply: {milliseconds of the server, {queue, waiting steps, the first of them or nil, when somebody last
--   asked or nil}, ...}. Steps that a claimer has taken out and not started still wait. Reads only.
local RESERVED_MOST = "999"

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

-- The entries that claimers have taken out, as far as they are counted: how many of a queue, and its first.
local function reserved(keys)
  local count, first = {}, {}
  local entries = command("ZRANGE", keys[keyslots.RESERVED], "0", RESERVED_MOST)
  for i = 1, #entries do
    local name = match(entries[i], "^[^:]+")
    count[name] = (count[name] or 0) + 1
    if not first[name] or entries[i] < first[name] then
      first[name] = entries[i]
    end
  end
  return count, first
end

-- The first of two entries, of which either may be missing.
local function earlier(one, other)
  return one and other and (one < other and one or other) or one or other or false
end

return function(keys, args)
  local call_ = call.open(keys)
  local taken, first_taken = reserved(keys)
  local ready, names = keys[keyslots.READY], {}
  for i = 1, #args do
    names[args[i]] = true
  end
  if #args == 0 then
    holding(ready, names)
    for name in pairs(taken) do
      names[name] = true
    end
    local served = command("ZRANGE", keys[keyslots.SERVED], "0", "-1")
    for i = 1, #served do
      names[served[i]] = true
    end
  end
  local reply = { call.number(call_.ms) }
  for name in pairs(names) do
    local from, to = "[" .. name .. ":", "(" .. name .. ";"
    reply[#reply + 1] = {
      name, call.number(command("ZLEXCOUNT", ready, from, to) + (taken[name] or 0)),
      earlier(command("ZRANGEBYLEX", ready, from, to, "LIMIT", "0", "1")[1], first_taken[name]),
      command("ZSCORE", keys[keyslots.SERVED], name),
    }
  end
  return reply
end
