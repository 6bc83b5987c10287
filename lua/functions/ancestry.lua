-- ancestry: walks upwards from some steps to the steps that hold them back.
--
-- Bound: a budget of 250, of which an entry of the list costs 3 and an edge 1; the last chunk (200) begun within it
--   is finished.
--
-- Budget of one call: an edge costs one, and each place to look at costs a few, for its reads.
local BUDGET, PLACE = 250, 3

-- A step whose parents are worth a look: it waits for them, or was cancelled by one.
local function is_held(text)
  local state, cause = codec.step_outcome(text)
  return state == "p" or (state == states.CASCADED.state and cause == states.CASCADED.cause)
end

-- The step and the marked parents of a place, and the next place when there are more parents.
local function parents_of(workflow, place, text)
  local name, chunk = match(place, "^([^#]+)#?(%d*)$")
  local parents = codec.step_parents(text)
  local total = tonumber(match(parents, "^#(%d+)$"))
  if not total then
    return parents, nil
  end
  local number = tonumber(chunk) or 0
  local more = (number + 1) * states.CHUNK < total and name .. "#" .. (number + 1) or nil
  return command("HGET", workflow.p, "u:" .. name .. ":" .. number), more
end

-- Whether a parent holds back a waiting child, or has cancelled a cancelled one.
local function holds(child, mark, parent)
  local state = codec.step_state(parent)
  if not states.TERMINAL[state] then
    return codec.step_state(child) == "p"
  end
  return state ~= "c" and mark == ""
end

-- Reports the parents that hold back a place's step, and appends to places those that are held back themselves.
-- Returns how many edges it has looked at.
local function expand(workflow, place, seen, places, reply)
  local name = match(place, "^[^#]+")
  transaction.fetch(workflow, { name })
  local own = workflow.raw[name]
  if not own or not is_held(own) then
    return 0
  end
  local text, more = parents_of(workflow, place, own)
  if more and not seen[more] then
    seen[more] = true
    places[#places + 1] = more
  end
  local marks, parents = {}, {}
  for mark, parent in gmatch(text, "([+!]?)([^,+!]+)") do
    parents[#parents + 1] = parent
    marks[#parents] = mark
  end
  transaction.fetch(workflow, parents)
  for i = 1, #parents do
    local parent, found = parents[i], workflow.raw[parents[i]]
    if holds(own, marks[i], found) then
      reply.edges[#reply.edges + 1] = { name, parent }
      if not workflow.shown[parent] then
        workflow.shown[parent] = true
        reply.records[#reply.records + 1] = { parent, found }
      end
      if not seen[parent] and is_held(found) then
        seen[parent] = true
        places[#places + 1] = parent
      end
    end
  end
  return #parents
end

return function(keys, places)
  local w, p = keyslots.workflow(keys, 1)
  local workflow = { w = w, p = p, raw = {}, shown = {} }
  local seen, reply = {}, { edges = {}, records = {} }
  for i = 1, #places do
    seen[places[i]] = true
  end
  local at, budget = 1, BUDGET
  while at <= #places and budget > 0 do
    budget = budget - PLACE - expand(workflow, places[at], seen, places, reply)
    at = at + 1
  end
  local left = {}
  for i = at, #places do
    left[#left + 1] = places[i]
  end
  return { reply.edges, reply.records, left }
end
