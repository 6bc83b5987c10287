-- ancestry: what holds steps back, walked upwards from them.
--
-- Keys: the partition's, then four of the workflow (keyslots).
-- Arguments: places to go on from: a step's name, or "name#n" for the n-th chunk of its parents.
-- Reply: {edges, places}. An edge is child, parent ("+" before one over a continue edge), the parent's
--   record. Only parents that hold their child are told: those that have not ended, for a child that
--   waits, and those that ended other than completed over a cancel edge. places is where to go on; empty when all is told.
--   Reads only.
local AT_ONCE = 50
-- What one call walks: an edge costs one, and each read of a batch as much as a few.
local BUDGET, READ = 250, 2

-- A step whose parents are worth a look: it waits for them, or was cancelled by one.
local function is_held(text)
  local state, cause = match(text, "^(%a),%d+,%d*,%x*,%d+,%d+,%d+,%d*,%d*,(%a?),")
  return state == "p" or (state == states.CASCADED.state and cause == states.CASCADED.cause)
end

-- The marked parents of a place, and the place behind it when there are more.
local function parents_of(flow, place, text)
  local name, chunk = match(place, "^([^#]+)#?(%d*)$")
  local parents = record.parents(text)
  local total = tonumber(match(parents, "^#(%d+)$"))
  if not total then
    return name, parents, nil
  end
  local number = tonumber(chunk) or 0
  local more = (number + 1) * states.CHUNK < total and name .. "#" .. (number + 1) or nil
  return name, command("HGET", flow.p, "u:" .. name .. ":" .. number), more
end

-- Whether a parent holds a child that waits, or has cancelled one that was cancelled.
local function holds(child, mark, parent)
  local state = sub(parent, 1, 1)
  if not states.TERMINAL[state] then
    return sub(child, 1, 1) == "p"
  end
  return state ~= "c" and mark == ""
end

local function look_up(flow, known, names)
  local missing = {}
  for i = 1, #names do
    if not known[names[i]] then
      known[names[i]] = true
      missing[#missing + 1] = names[i]
    end
  end
  if #missing > 0 then
    local found = command("HMGET", flow.w, unpack(missing))
    for i = 1, #missing do
      known[missing[i]] = found[i] or ""
    end
  end
end

-- Tells the holding parents of these places; appends those that are held themselves to places.
local function expand(flow, batch, known, seen, places, edges)
  local own = {}
  for i = 1, #batch do
    own[i] = match(batch[i], "^[^#]+")
  end
  look_up(flow, known, own)
  local found, names = {}, {}
  for i = 1, #batch do
    if is_held(known[own[i]]) then
      local name, text, more = parents_of(flow, batch[i], known[own[i]])
      if more then
        places[#places + 1] = more
      end
      for mark, parent in gmatch(text, "(%+?)([^,+]+)") do
        found[#found + 1] = { name, mark, parent }
        names[#names + 1] = parent
      end
    end
  end
  look_up(flow, known, names)
  for i = 1, #found do
    local name, mark, parent = unpack(found[i])
    local text = known[parent]
    if holds(known[name], mark, text) then
      edges[#edges + 1] = { name, mark .. parent, text }
      if not seen[parent] and is_held(text) then
        seen[parent] = true
        places[#places + 1] = parent
      end
    end
  end
  return #found
end

return function(keys, args)
  local w, p = keyslots.flow(keys, 1)
  local flow = { w = w, p = p }
  local places, known, seen, edges = args, {}, {}, {}
  for i = 1, #places do
    seen[places[i]] = true
  end
  local at, budget = 1, BUDGET
  while at <= #places and budget > 0 do
    -- A chunk holds many edges, so few places are taken up at a time.
    local batch = { unpack(places, at, min(at + AT_ONCE - 1, #places)) }
    if find(batch[1], "#", 1, true) then
      batch = { batch[1] }
    end
    at = at + #batch
    budget = budget - READ - expand(flow, batch, known, seen, places, edges)
  end
  return { edges, { unpack(places, at) } }
end
