-- list_queues: a page of a partition's queues, all that hold a step or were asked for one: how many steps wait, and
-- when steps were last asked for.
--
-- Reply: {milliseconds of the server, where to go on, "" at the end, {queues as in queue.describe, ...}}. A queue
--   may be on two pages, either of which is right. Steps that are reserved and not started count as waiting.
--   Reads only.
-- Bound: 200 queues a page, and those of the first 500 reserved entries.
local QUEUES_PER_PAGE = 200
local HOLDING, ASKED = "^:q(.+)$", "^:s(%d+)$"

-- Finds queues that hold a step, from a bound on, with one read for each. Returns the bound to go on from.
local function holding(ready, from, found)
  for _ = 1, QUEUES_PER_PAGE do
    local first = command("ZRANGEBYLEX", ready, from, "+", "LIMIT", "0", "1")[1]
    if not first then
      return ":s0"
    end
    local name = match(first, "^[^:]+")
    found[name] = true
    from = "(" .. name .. ";"
  end
  return ":q" .. from
end

-- Finds queues that were asked for steps. Returns the place to go on from.
local function asked_for(served, cursor, found)
  local page = command("ZSCAN", served, cursor, "COUNT", integer.text(QUEUES_PER_PAGE))
  for i = 1, #page[2], 2 do
    found[page[2][i]] = true
  end
  return page[1] ~= "0" and ":s" .. page[1] or ""
end

-- The names of a page, and the place to go on from.
local function page_at(keys, cursor, taken)
  local names = {}
  if match(cursor, ASKED) then
    return names, asked_for(keys[keyslots.SERVED], match(cursor, ASKED), names)
  elseif cursor == ":" then
    for name in pairs(taken) do
      names[name] = true
    end
  end
  return names, holding(keys[keyslots.READY], match(cursor, HOLDING) or "-", names)
end

return function(keys, cursor)
  local now, found = integer.text(transaction.open(keys).ms), {}
  local taken, first_taken = queue.taken_out(keys)
  local names, following = page_at(keys, cursor, taken)
  for name in pairs(names) do
    found[#found + 1] = queue.describe(keys, name, taken[name], first_taken[name])
  end
  return { now, following, found }
end
