-- queues: how much waits in a partition's queues, and when somebody last asked for their steps.
--
-- Keys: the partition's (keyslots).
-- Arguments: queues' names; or none but where to go on, ":" to begin, for a page of all that hold a step or
--   that somebody has asked for.
-- Reply: {milliseconds of the server, where to go on, "" at the end, {queue, waiting steps, the first of them or
--   nil, when somebody last asked or nil}, ...}. A queue may stand on two pages; the later one is as good as the
--   first. Steps that a claimer has taken out and not started still wait. Reads only.
-- Bound: 200 queues a page beside those of the first 500 entries that are taken out; the caller's 256 names.
local TAKEN_OUT_MOST = "499"
local QUEUES_PER_PAGE = 200
local HOLDING, ASKED = "^:q(.+)$", "^:s(%d+)$"

-- Finds queues that hold a step from a bound on, one jump each. Returns where to go on.
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

-- Finds queues that somebody has asked for. Returns where to go on.
local function asked_for(served, cursor, found)
  local page = command("ZSCAN", served, cursor, "COUNT", integer.text(QUEUES_PER_PAGE))
  for i = 1, #page[2], 2 do
    found[page[2][i]] = true
  end
  return page[1] ~= "0" and ":s" .. page[1] or ""
end

-- The entries that claimers have taken out, as far as they are counted: how many of a queue, and its first.
local function taken_out(keys)
  local count, first = {}, {}
  local entries = command("ZRANGE", keys[keyslots.RESERVED], "0", TAKEN_OUT_MOST)
  for i = 1, #entries do
    local name = match(entries[i], "^[^:]+")
    count[name] = (count[name] or 0) + 1
    if not first[name] or entries[i] < first[name] then
      first[name] = entries[i]
    end
  end
  return count, first
end

-- The names that are meant, and where to go on.
local function chosen(keys, args, taken)
  local names, place = {}, args[1]
  if sub(place, 1, 1) ~= ":" then
    for i = 1, #args do
      names[args[i]] = true
    end
    return names, ""
  elseif match(place, ASKED) then
    return names, asked_for(keys[keyslots.SERVED], match(place, ASKED), names)
  elseif place == ":" then
    for name in pairs(taken) do
      names[name] = true
    end
  end
  return names, holding(keys[keyslots.READY], match(place, HOLDING) or "-", names)
end

-- The first of two entries, of which either may be missing.
local function earlier(one, other)
  return one and other and (one < other and one or other) or one or other or false
end

return function(keys, args)
  local tx = transaction.open(keys)
  local taken, first_taken = taken_out(keys)
  local ready, names, place = keys[keyslots.READY], chosen(keys, args, taken)
  local reply = { integer.text(tx.ms), place }
  for name in pairs(names) do
    local from, to = "[" .. name .. ":", "(" .. name .. ";"
    reply[#reply + 1] = {
      name, integer.text(command("ZLEXCOUNT", ready, from, to) + (taken[name] or 0)),
      earlier(command("ZRANGEBYLEX", ready, from, to, "LIMIT", "0", "1")[1], first_taken[name]),
      command("ZSCORE", keys[keyslots.SERVED], name),
    }
  end
  return reply
end
