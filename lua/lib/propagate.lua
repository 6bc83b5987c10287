-- Walking the edges of steps that have ended: children are released, cancelled or skipped, and those that end so
-- are walked in turn, breadth first and to any depth.
--
-- A call walks at most states.EDGES_PER_CALL edges. The rest is durable: each unfinished step's record says how many
-- chunks of its edges have been walked, and a numbered entry of the workflow's hash (">n", from header.head up to
-- header.tail) names these steps. For the entries of cancel requests see sweep.lua, for those of recoveries
-- recovery.lua, for those of appends growth.lua. Entries are finished in their order, by any client that calls advance.
-- As every edge is walked exactly once, a child's count of unresolved parents is exact however the work is cut.
local M = {}

-- The functions that go on with other kinds of entries, by origin; set by the modules that write these.
M.resume = {}

-- The timer of an unfinished walk, due a while after the latest call that moved it on: a client that goes on by
-- itself is left alone, and others take over when it is gone.
function M.timer(workflow)
  return "u|" .. workflow.id
end

-- Writes one of the entries; the timer follows (flush.lua).
function M.put(workflow, number, entry)
  transaction.set_again(workflow, ">" .. number, codec.write_traversal(entry)) -- numbers begin anew after the last
  workflow.walked = true
end

-- Appends the children in a list of edges to names, and the positions of those whose edge does not resolve them to
-- names.unresolved, where there are any.
local function gather(text, parent, names)
  local completed, count = parent.state == "c", #names
  for name in gmatch(text, "[^,]+") do
    count = count + 1
    if byte(name) == 43 then -- "+"
      name = sub(name, 2)
    elseif not completed then
      names.unresolved = names.unresolved or {}
      names.unresolved[count] = true
    end
    names[count] = name
  end
end

local function release(tx, workflow, name, class, tail, since, traversal)
  local order = queue.add(tx, workflow, name, class)
  workflow.raw[name] = codec.write_step_lead("a", "0", since, order, tail)
  workflow.dirty[name] = true
  local released = traversal.released or {}
  released[#released + 1], traversal.released = name, released
end

-- Ends a pending step. It is walked in turn when it has children, unless a cancel request is open, which itself ends
-- all steps, or all but those that always run.
local function finish(workflow, name, step, outcome, traversal)
  step.state, step.cause, step.seen = outcome.state, outcome.cause, outcome.seen or ""
  step.since, step.finished = workflow.since, workflow.since
  workflow.dirty[name] = true
  if (workflow.h.cancel == "" or workflow.b) and record.children(step) ~= "" then
    step.walked = "0"
    traversal.names[#traversal.names + 1] = name
  end
end

local function cancel(workflow, name, traversal)
  local outcome = workflow.h.cancel ~= "" and states.CANCELLED_BY_REQUEST or states.CASCADED
  local cancelled = traversal.cancelled or {}
  cancelled[#cancelled + 1], traversal.cancelled = name, cancelled
  finish(workflow, name, transaction.step(workflow, name), outcome, traversal)
end

-- Applies edges whose parents have ended. A child that is not pending is left as it is.
local function apply(tx, workflow, traversal, names)
  local since, raw, dirty, requested = workflow.since, workflow.raw, workflow.dirty, workflow.h.cancel ~= ""
  local unresolved = names.unresolved
  for i = 1, #names do
    local name = names[i]
    local remaining, before, tail, class = codec.read_step_lead(transaction.text(workflow, name))
    if remaining then
      if (unresolved and unresolved[i]) or (remaining == "1" and requested) then
        cancel(workflow, name, traversal)
      elseif remaining == "1" then
        release(tx, workflow, name, class, tail, since, traversal)
      else
        raw[name] = codec.write_step_lead("p", integer.text(remaining - 1), before, "", tail)
        dirty[name] = true
      end
    end
  end
end

-- Skips or releases a step whose edges are all resolved, under semantics version 3.
local function decide(tx, workflow, traversal, name, step)
  if workflow.h.cancel ~= "" and not branching.is_always(step) then
    cancel(workflow, name, traversal)
    return
  end
  local outcome = branching.skip(step, step.seen)
  if outcome then
    traversal.skipped = (traversal.skipped or 0) + 1
    finish(workflow, name, step, outcome, traversal)
  else
    step.state, step.remaining, step.since, step.seen = "a", "0", workflow.since, ""
    step.order = queue.add(tx, workflow, name, step.class)
    workflow.dirty[name] = true
    local released = traversal.released or {}
    released[#released + 1], traversal.released = name, released
  end
end

-- Applies edges as apply does, under semantics version 3.
local function apply_effects(tx, workflow, traversal, names)
  local effects = names.effects
  for i = 1, #names do
    local name = names[i]
    local step = transaction.step(workflow, name)
    if step.state == "p" and not effects[i] then
      cancel(workflow, name, traversal)
    elseif step.state == "p" then
      step.seen = branching.add(step.seen, effects[i])
      if step.remaining == "1" then
        decide(tx, workflow, traversal, name, step)
      else
        step.remaining = integer.text(step.remaining - 1)
        workflow.dirty[name] = true
      end
    end
  end
end

-- Gathers the edges of one step, or a chunk of them. Returns false when they are more than room.
local function take(workflow, name, room, names)
  local step = transaction.step(workflow, name)
  if not find(step.walked, "%d") then
    return true -- a recovery has revived it meanwhile
  end
  local text = record.children(step)
  local gather_edges = workflow.b and branching.gather or gather
  local total = byte(text) == 35 and tonumber(sub(text, 2))
  if not total then
    local before = #names
    gather_edges(text, step, names)
    if #names - before > room then
      for i = #names, before + 1, -1 do
        names[i] = nil
      end
      return false
    end
    step.walked = ""
  else
    if room < states.CHUNK then
      return false
    end
    local chunk = tonumber(step.walked) or 0
    gather_edges(transaction.payload(workflow, "k:" .. name .. ":" .. chunk), step, names)
    step.walked = (chunk + 1) * states.CHUNK < total and tostring(chunk + 1) or ""
  end
  workflow.dirty[name] = true
  return true
end

-- Takes up the walk's next steps as far as the budget goes. Returns the budget left.
local function take_some(workflow, traversal, budget, names)
  local most = budget
  while traversal.at <= #traversal.names do
    local name = traversal.names[traversal.at]
    if not take(workflow, name, budget, names) then
      return 0
    end
    budget = most - #names
    if not find(workflow.steps[name].walked, "%d") then
      traversal.at = traversal.at + 1
    end
  end
  return budget
end

-- Adds a walk's effects to the workflow's counts and the fleet's counters.
local function count(tx, workflow, traversal)
  local released, cancelled, skipped = traversal.released, traversal.cancelled, traversal.skipped
  if released then
    transaction.recount(tx, workflow, "p", "a", #released)
    transaction.count_move(tx, workflow, states.COUNTER_RELEASED, #released)
  end
  if cancelled then
    transaction.recount(tx, workflow, "p", states.CASCADED.state, #cancelled)
    local outcome = workflow.h.cancel ~= "" and states.CANCELLED_BY_REQUEST or states.CASCADED
    transaction.count_move(tx, workflow, outcome.counter, #cancelled)
  end
  if skipped then
    transaction.recount(tx, workflow, "p", states.SKIPPED.state, skipped)
    transaction.count_move(tx, workflow, states.SKIPPED.counter, skipped)
    workflow.b.skipped = workflow.b.skipped + skipped
  end
end

-- Walks from the named steps within the call's budget. Returns the walk: the steps released and cancelled, false for
-- none; names and at, the steps and the position from where they remain to be walked; and given, how many of these
-- steps were passed in (the walk found the others, which come after them).
function M.run(tx, workflow, names)
  local traversal = { names = names, at = 1, released = false, cancelled = false, given = #names }
  local budget = tx.budget
  while traversal.at <= #names and budget > 0 do
    local children = {}
    budget = take_some(workflow, traversal, budget, children)
    transaction.fetch(workflow, children)
    budget = budget - 1 -- a read costs about as much as an edge
    if workflow.b then
      apply_effects(tx, workflow, traversal, children)
    else
      apply(tx, workflow, traversal, children)
    end
  end
  count(tx, workflow, traversal)
  tx.budget = budget
  traversal.given = traversal.given - traversal.at + 1
  return traversal
end

-- Applies edges from a parent to some of its children, unless it has not ended, or its edges are still to be walked.
-- Children that end by it are walked with a later call.
function M.resolve(tx, workflow, parent, text)
  local step = transaction.step(workflow, parent)
  if not states.TERMINAL[step.state] or find(step.walked, "%d") then
    return
  end
  local names, traversal = {}, { names = {}, released = false, cancelled = false }
  branching.gather(text, step, names)
  transaction.fetch(workflow, names)
  apply_effects(tx, workflow, traversal, names)
  count(tx, workflow, traversal)
  M.append(workflow, "", traversal, 1)
  tx.budget = tx.budget - #names
end

-- Walks from steps that have just ended. While a recovery or an append is unfinished they are queued behind it: a recovery
-- counts the unresolved edges that it finds, and an append adds edges.
function M.descend(tx, workflow, names)
  if workflow.h.recovering ~= "" then
    return { names = names, at = 1, released = false, cancelled = false, given = #names }
  end
  return M.run(tx, workflow, names)
end

-- Puts the rest of a traversal, from the given position on, behind all other unfinished entries. Returns how many
-- entries that makes.
function M.append(workflow, origin, traversal, at)
  if at > #traversal.names then
    return 0
  end
  M.put(workflow, workflow.h.tail, { origin = origin, left = concat(traversal.names, ",", at) })
  workflow.h.tail = workflow.h.tail + 1
  workflow.moved = true
  return 1
end

-- Removes the first entry.
function M.drop_first(workflow)
  local h = workflow.h
  transaction.remove(workflow, ">" .. h.head)
  workflow.walked = true
  h.head = h.head + 1
  if h.head == h.tail then
    h.head, h.tail = 0, 0
  end
end

-- Rewrites or removes the first entry. Returns by how many its origin's entries have changed.
local function replace_first(workflow, entry, traversal)
  local change = 0
  if traversal.given > 0 then
    entry.left = concat(traversal.names, ",", traversal.at, traversal.at + traversal.given - 1)
    M.put(workflow, workflow.h.head, entry)
  else
    change = -1
  end
  change = change + M.append(workflow, entry.origin, traversal, traversal.at + max(traversal.given, 0))
  if traversal.given <= 0 then
    M.drop_first(workflow)
  end
  workflow.moved = true
  return change
end

-- Walks the first entry within the call's budget; false when there is none.
function M.advance(tx, workflow)
  if workflow.h.head >= workflow.h.tail then
    return false
  end
  local entry = codec.read_traversal(command("HGET", workflow.w, ">" .. workflow.h.head))
  local origin, resume = entry.origin, M.resume[entry.origin]
  if resume then
    resume(tx, workflow, entry)
    return true
  end
  local names = {}
  for name in gmatch(entry.left, "[^,]+") do
    names[#names + 1] = name
  end
  transaction.fetch(workflow, names)
  local traversal = M.run(tx, workflow, names)
  local change = replace_first(workflow, entry, traversal)
  if origin ~= "" then
    local row = codec.read_row(command("HGET", workflow.p, "r:" .. origin))
    -- The row is written before the steps: after a call that was cut off between the two it may be ahead.
    row.open = workflow.h.head < workflow.h.tail and max(row.open + change, 0) or 0
    results.add_walked(row, traversal.released, traversal.cancelled)
    results.put(workflow, origin, codec.write_row(row))
  end
  return true
end

return M
