-- Walking the edges of steps that have ended: children are released or cancelled, and the cancelled
-- are walked in turn, breadth first and to any depth.
--
-- A call walks at most states.EDGES_PER_CALL edges. What is left is durable: each unfinished step's
-- record says how many chunks of its edges have been walked, and a numbered entry of the workflow's
-- hash (">n", from header.head up to header.tail) says which steps these are:
--   origin|name,name,...           origin = step:attempt of the completion, empty for an insert
-- A cancel request's entry is in sweep.lua, a recovery's in recovery.lua. Entries are finished in their order, by whoever calls advance. As every edge is walked exactly
-- once, a child's count of unresolved parents is exact however the work is cut.
local M = {}

-- The timer of what is left to be walked: due a while after the latest call that has moved it, so that
-- others go on when that call's client is gone, and leave it alone while it is not.
function M.timer(flow)
  return "u|" .. flow.id
end

-- Writes one of the entries; the timer follows (flush.lua).
function M.put(flow, number, text)
  call.set(flow, ">" .. number, text)
  flow.walked = true
end

-- Appends the edges in a list: children to names, and whether their edge resolves them to resolved.
local function gather(text, completed, names, resolved)
  local count = #names
  for mark, name in gmatch(text, "(%+?)([^,+]+)") do
    count = count + 1
    names[count] = name
    resolved[count] = completed or mark == "+"
  end
end

local function release(call_, flow, name, class, rest, since, released)
  local order = queue.add(call_, flow, name, record.class(class))
  flow.raw[name] = "a,0," .. since .. "," .. order .. "," .. rest
  flow.dirty[name] = true
  released[#released + 1] = name
end

-- Ends a pending step; it is walked in turn when it has children, unless a cancel request stands, whose
-- sweep ends them all.
local function cancel(flow, name, since, walk)
  local step, requested = call.step(flow, name), flow.h.cancel ~= ""
  local outcome = requested and states.CANCELLED_BY_REQUEST or states.CASCADED
  step.state, step.cause = outcome.state, outcome.cause
  step.since, step.finished = since, since
  flow.dirty[name] = true
  walk.cancelled[#walk.cancelled + 1] = name
  if not requested and record.children(step) ~= "" then
    step.walked = "0"
    walk.names[#walk.names + 1] = name
  end
end

-- Applies edges whose parents have ended. A child that is not pending keeps its course.
local function apply(call_, flow, walk, names, resolved)
  local since, raw, dirty, requested = flow.since, flow.raw, flow.dirty, flow.h.cancel ~= ""
  for i = 1, #names do
    local name = names[i]
    local remaining, before, rest, class = match(call.text(flow, name), "^p,(%d+),(%d*),,([^|]*|([^|]*).*)$")
    if remaining then
      if not resolved[i] or (remaining == "1" and requested) then
        cancel(flow, name, since, walk)
      elseif remaining == "1" then
        release(call_, flow, name, class, rest, since, walk.released)
      else
        raw[name] = "p," .. call.number(remaining - 1) .. "," .. before .. ",," .. rest
        dirty[name] = true
      end
    end
  end
end

-- Gathers the edges of one step, or a chunk of them. Returns false when they are more than room.
local function take(flow, name, room, names, resolved)
  local step = call.step(flow, name)
  if not find(step.walked, "%d") then
    return true -- a recovery has revived it meanwhile
  end
  local text = record.children(step)
  local completed = step.state == "c"
  local total = byte(text) == 35 and tonumber(sub(text, 2))
  if not total then
    local before = #names
    gather(text, completed, names, resolved)
    if #names - before > room then
      for i = #names, before + 1, -1 do
        names[i], resolved[i] = nil, nil
      end
      return false
    end
    step.walked = ""
  else
    if room < states.CHUNK then
      return false
    end
    local chunk = tonumber(step.walked) or 0
    gather(command("HGET", flow.p, "k:" .. name .. ":" .. chunk), completed, names, resolved)
    step.walked = (chunk + 1) * states.CHUNK < total and tostring(chunk + 1) or ""
  end
  flow.dirty[name] = true
  return true
end

-- Takes up the walk's next steps as far as the budget goes; returns what is left of it.
local function take_some(flow, walk, budget, names, resolved)
  local most = budget
  while walk.at <= #walk.names do
    local name = walk.names[walk.at]
    if not take(flow, name, budget, names, resolved) then
      return 0
    end
    budget = most - #names
    if not find(flow.steps[name].walked, "%d") then
      walk.at = walk.at + 1
    end
  end
  return budget
end

-- What a walk means for the workflow's counts and the fleet's counters.
local function count(call_, flow, walk)
  local released, cancelled = #walk.released, #walk.cancelled
  if released > 0 then
    call.recount(call_, flow, "p", "a", released)
    call.count(call_, states.COUNTER_RELEASED, released)
  end
  if cancelled > 0 then
    call.recount(call_, flow, "p", states.CASCADED.state, cancelled)
    local by_request = states.COUNTER_COMPLETED[states.CANCELLED_BY_REQUEST.state .. states.CANCELLED_BY_REQUEST.cause]
    call.count(call_, flow.h.cancel ~= "" and by_request or states.COUNTER_CASCADED, cancelled)
  end
end

-- Walks from the named steps within the call's budget. Returns the walk: what was released and
-- cancelled; names and at, from where they remain to be walked; and given, how many of these were
-- given (the others, behind them, were found on the way).
function M.run(call_, flow, names)
  local walk = { names = names, at = 1, released = {}, cancelled = {}, given = #names }
  local budget = call_.budget
  while walk.at <= #names and budget > 0 do
    local children, resolved = {}, {}
    budget = take_some(flow, walk, budget, children, resolved)
    call.fetch(flow, children)
    budget = budget - 1 -- a read costs about as much as an edge
    apply(call_, flow, walk, children, resolved)
  end
  count(call_, flow, walk)
  call_.budget = budget
  walk.given = walk.given - walk.at + 1
  return walk
end

-- The same for steps that have just ended. While a recovery is unfinished they are walked behind it: it
-- counts what it finds.
function M.descend(call_, flow, names)
  if flow.h.recovering ~= "" then
    return { names = names, at = 1, released = {}, cancelled = {}, given = #names }
  end
  return M.run(call_, flow, names)
end

-- Puts what remains of a walk, from the given place on, behind all that is still to be walked.
-- Returns how many entries that makes.
function M.append(flow, origin, walk, at)
  if at > #walk.names then
    return 0
  end
  M.put(flow, flow.h.tail, origin .. "|" .. concat(walk.names, ",", at))
  flow.h.tail = flow.h.tail + 1
  flow.moved = true
  return 1
end

-- Removes the first entry.
function M.drop_first(flow)
  local h = flow.h
  flow.gone = { ">" .. h.head }
  flow.walked = true
  h.head = h.head + 1
  if h.head == h.tail then
    h.head, h.tail = 0, 0
  end
end

-- Rewrites or removes the first entry; returns by how many its origin's entries have changed.
local function replace_first(flow, origin, walk)
  local change = 0
  if walk.given > 0 then
    M.put(flow, flow.h.head, origin .. "|" .. concat(walk.names, ",", walk.at, walk.at + walk.given - 1))
  else
    change = -1
  end
  change = change + M.append(flow, origin, walk, walk.at + max(walk.given, 0))
  if walk.given <= 0 then
    M.drop_first(flow)
  end
  flow.moved = true
  return change
end

-- Walks the first entry within the call's budget; false when there is none.
function M.advance(call_, flow)
  if flow.h.head >= flow.h.tail then
    return false
  end
  local entry = command("HGET", flow.w, ">" .. flow.h.head)
  local origin, text = match(entry, "^([^|]*)|(.*)$")
  if origin == sweep.ORIGIN then
    sweep.advance(call_, flow, tonumber(text))
    return true
  end
  if origin == recovery.ORIGIN then
    recovery.advance(call_, flow, text)
    return true
  end
  local names = {}
  for name in gmatch(text, "[^,]+") do
    names[#names + 1] = name
  end
  call.fetch(flow, names)
  local walk = M.run(call_, flow, names)
  local change = replace_first(flow, origin, walk)
  if origin ~= "" then
    local row = rows.read(command("HGET", flow.p, "r:" .. origin))
    -- The row is written before the steps: after a call that was cut off between them it may be ahead.
    row.open = flow.h.head < flow.h.tail and max(row.open + change, 0) or 0
    rows.tally(row, walk.released, walk.cancelled)
    rows.put(flow, origin, rows.write(row))
  end
  return true
end

return M
