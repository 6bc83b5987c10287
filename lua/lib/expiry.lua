-- Ending waits whose deadline has passed: their steps expire, and what depends on these is released or cancelled.
local M = {}

local EXPIRED_PER_CALL = 100
local UNCOUNTED = "=" -- as a woken step holds (claims.lua)

-- The latest deadline that counts as passed: now or, under an open cancel request, the time of the request. Waits
-- that were still open then are ended by the request.
local function passed_us(tx, workflow)
  local requested = match(workflow.h.cancel, "^%d+")
  return requested and (workflow.h.inserted + requested) * 1000 or tonumber(tx.us)
end

local function is_due(wait, passed)
  return wait.status == "w" and wait.deadline ~= "" and tonumber(wait.deadline) <= passed
end

-- Ends those of the named steps whose deadline has passed. Returns their names.
function M.expire_named(tx, workflow, names)
  waits.load(workflow, names)
  local expired, parents, passed = {}, {}, passed_us(tx, workflow)
  for i = 1, #names do
    local name = names[i]
    local step, wait = transaction.step(workflow, name), workflow.waits[name]
    local by = step and branching.outlasts(workflow, step) and tonumber(tx.us) or passed
    if step and step.state == "w" and is_due(wait, by) then
      expired[#expired + 1] = name
      if waits.goes_on(wait) then
        waits.time_out(tx, workflow, name)
        transitions.enqueue(tx, workflow, name, step)
        step.claim = step.state == "a" and UNCOUNTED or ""
      else
        transitions.become(tx, workflow, name, step, states.WAIT_EXPIRED)
        waits.expire(tx, workflow, name)
        if record.children(step) ~= "" then
          step.walked = "0"
          parents[#parents + 1] = name
        end
      end
    end
  end
  if #expired > 0 then
    tx.budget = max(tx.budget - #expired, 0)
    local done = propagate.descend(tx, workflow, parents)
    propagate.append(workflow, "", done, done.at)
  end
  return expired
end

-- Ends waits whose deadline has passed, before anything else is judged: first of the named steps, whose records are
-- loaded, then of others, as many as a call may. Returns whether there may be more.
function M.expire(tx, workflow, names)
  if not workflow.h or workflow.h.w == 0 or not states.IMPLEMENTED[workflow.h.semantics] then
    return false
  end
  if #names > 0 then
    M.expire_named(tx, workflow, names)
  end
  -- In a call on several workflows, a later call goes on with those that come last.
  local most = max(min(EXPIRED_PER_CALL, tx.budget), 1)
  local due = command(
    "ZRANGEBYSCORE", keyslots.other(workflow.w, "d"), "0", integer.text(tx.ms), "LIMIT", "0", integer.text(most)
  )
  if #due == 0 then
    return false
  end
  transaction.fetch(workflow, due)
  M.expire_named(tx, workflow, due)
  for i = 1, #due do
    waits.place(tx, workflow, due[i], workflow.waits[due[i]])
  end
  return #due == most
end

-- Ends the due waits of a chunk of steps, and repairs their wait notices. Returns what the topics of the waits are to
-- be notified of.
function M.check(tx, workflow, names, repairs)
  waits.load(workflow, names)
  local waiting, found = {}, {}
  for i = 1, #names do
    if workflow.waits[names[i]] then
      waiting[#waiting + 1] = names[i]
    end
  end
  if #waiting == 0 then
    return found
  end
  local expired, changed = M.expire_named(tx, workflow, waiting), {}
  for i = 1, #expired do
    changed[expired[i]] = true
    repairs[#repairs + 1] = { "wait_expired", expired[i] }
  end
  local misplaced = waits.misplaced(tx, workflow, waiting)
  for i = 1, #misplaced do
    local name = misplaced[i]
    if not changed[name] then
      waits.place(tx, workflow, name, workflow.waits[name])
      repairs[#repairs + 1] = { "wait_timer_missing", name }
    end
  end
  for i = 1, #waiting do
    waits.list(workflow, waiting[i], true, found)
  end
  return found
end

return M
