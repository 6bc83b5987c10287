-- Walking the edges of steps that have ended: children are released or cancelled, and the cancelled
-- are walked in turn, breadth first and to any depth.
--
-- A call walks at most states.EDGES_PER_CALL edges. What is left is durable: each unfinished step's
-- record says how many of its edges have been walked, and a numbered entry of the workflow's hash
-- (">n", from header.head up to header.tail) says which steps these are:
--   origin|name,name,...           origin = step:attempt of the completion, empty for an insert
-- Entries are finished in their order, by whoever calls advance. As every edge is walked exactly
-- once, a child's count of unresolved parents is exact however the work is cut.
local M = {}

local function edges_of(text, edges)
  for mark, name in string.gmatch(text, "(%+?)([^,+]+)") do
    edges[#edges + 1] = { name, mark == "+" }
  end
end

-- The step's edges from the walked-th on, at most room of them; and how many edges it has.
local function next_edges(flow, name, step, room)
  local from = tonumber(step.walked) or 0
  local text = record.children(step.static)
  local total = tonumber(string.match(text, "^#(%d+)$"))
  local edges = {}
  if not total then
    edges_of(text, edges)
    total = #edges
    if from == 0 and total <= room then
      return edges, total
    end
    local some = {}
    for i = from + 1, math.min(from + room, total) do
      some[#some + 1] = edges[i]
    end
    return some, total
  end
  local first, last = math.floor(from / states.CHUNK), math.floor((math.min(from + room, total) - 1) / states.CHUNK)
  local fields = {}
  for chunk = first, last do
    fields[#fields + 1] = "k:" .. name .. ":" .. chunk
  end
  local chunks = redis.call("HMGET", flow.p, unpack(fields))
  for i = 1, #chunks do
    edges_of(chunks[i], edges)
  end
  local some, skip = {}, from - first * states.CHUNK
  for i = skip + 1, math.min(skip + room, #edges) do
    some[#some + 1] = edges[i]
  end
  return some, total
end

local function release(call_, flow, name, since, rest, released)
  local class = record.class(string.match(rest, "|(.*)$"))
  local order = queue.add(call_, flow, name, class)
  flow.raw[name] = "a,0," .. since .. "," .. order .. "," .. rest
  call.touch(flow, name)
  call.recount(call_, flow, "p", "a")
  released[#released + 1] = name
end

-- Ends a pending step, and returns its record if it has children to walk.
local function cancel(call_, flow, name, since, cancelled)
  local step = call.step(flow, name)
  step.state, step.cause = states.CASCADED.state, states.CASCADED.cause
  step.since, step.finished = since, since
  call.touch(flow, name)
  call.recount(call_, flow, "p", "x")
  cancelled[#cancelled + 1] = name
  if record.children(step.static) == "" then
    return nil
  end
  step.walked = "0"
  return step
end

-- Applies one edge whose parent has ended.
local function apply(call_, flow, name, resolved, since, walk)
  local remaining, rest = string.match(call.text(flow, name), "^p,(%d+),%d*,%x*,(.*)$")
  if not remaining then
    return -- it has ended, or was placed by an operator: it keeps its course
  end
  if not resolved then
    if cancel(call_, flow, name, since, walk.cancelled) then
      walk.names[#walk.names + 1] = name
    end
  elseif remaining == "1" then
    release(call_, flow, name, since, rest, walk.released)
  else
    flow.raw[name] = "p," .. (remaining - 1) .. ",,," .. rest
    call.touch(flow, name)
  end
end

-- Takes edges of the walk's next steps while the budget lasts, so that one read fetches all their
-- children. Returns the edges as a flat list: child, resolved, child, resolved, ...
local function take(flow, walk, budget)
  local taken, children = {}, {}
  while walk.at <= #walk.names and budget > 0 do
    local name = walk.names[walk.at]
    local step = call.step(flow, name)
    local edges, total = next_edges(flow, name, step, budget)
    local completed = step.state == "c"
    for i = 1, #edges do
      taken[#taken + 1] = edges[i][1]
      taken[#taken + 1] = completed or edges[i][2]
      children[#children + 1] = edges[i][1]
    end
    budget = budget - #edges
    local walked = (tonumber(step.walked) or 0) + #edges
    call.touch(flow, name)
    if walked < total then
      step.walked = tostring(walked)
      break
    end
    step.walked = ""
    walk.at = walk.at + 1
  end
  call.fetch(flow, children)
  return taken, budget
end

-- Adds to the fleet's counters what a walk did.
local function count(call_, flow, walk)
  if #walk.released > 0 then
    call.count(call_, "su|dependency|available|" .. flow.h.semantics, #walk.released)
  end
  if #walk.cancelled > 0 then
    local labels = "cc|dependency|cancelled|cancelled_by_dependency|"
    call.count(call_, labels .. flow.h.semantics, #walk.cancelled)
  end
end

-- Walks from the named steps within the budget. Returns what was released and cancelled, the budget
-- that is left, the names that remain to be walked, and how many of these were given (the others,
-- behind them, were found on the way).
function M.run(call_, flow, names, budget)
  local walk = { names = names, at = 1, released = {}, cancelled = {} }
  local given = #names
  local since = call_.ms - flow.h.inserted
  while walk.at <= #walk.names and budget > 0 do
    local taken
    taken, budget = take(flow, walk, budget)
    for i = 1, #taken, 2 do
      apply(call_, flow, taken[i], taken[i + 1], since, walk)
    end
  end
  count(call_, flow, walk)
  walk.budget = budget
  walk.left = { unpack(walk.names, walk.at) }
  walk.given = math.max(given - walk.at + 1, 0)
  return walk
end

-- Puts names behind all that is still to be walked.
function M.append(flow, origin, names)
  flow.fields[#flow.fields + 1] = ">" .. flow.h.tail
  flow.fields[#flow.fields + 1] = origin .. "|" .. table.concat(names, ",")
  flow.h.tail = flow.h.tail + 1
  flow.moved = true
end

-- Walks the first entry within the budget; false when there is none.
function M.advance(call_, flow, budget)
  local h = flow.h
  if h.head >= h.tail then
    return false
  end
  local field = ">" .. h.head
  local origin, text = string.match(redis.call("HGET", flow.w, field), "^([^|]*)|(.*)$")
  local names = {}
  for name in string.gmatch(text, "[^,]+") do
    names[#names + 1] = name
  end
  call.fetch(flow, names)
  local walk = M.run(call_, flow, names, budget)
  local opened = 0
  if walk.given > 0 then
    flow.fields[#flow.fields + 1] = field
    flow.fields[#flow.fields + 1] = origin .. "|" .. table.concat(walk.left, ",", 1, walk.given)
  else
    flow.gone[#flow.gone + 1] = field
    h.head = h.head + 1
    flow.moved = true
    opened = opened - 1
  end
  if #walk.left > walk.given then
    M.append(flow, origin, { unpack(walk.left, walk.given + 1) })
    opened = opened + 1
  end
  if origin ~= "" then
    local row = rows.read(redis.call("HGET", flow.p, "r:" .. origin))
    row.open = row.open + opened
    rows.tally(row, walk.released, walk.cancelled)
    rows.put(flow, origin, row)
  end
  return true
end

return M
