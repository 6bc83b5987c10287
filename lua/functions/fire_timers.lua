-- fire_timers: carries out the due timers of some workflows: retries become available, leases that have passed are
-- taken away, waits expire, and an unfinished walk goes a slice further.
--
-- Reply: for each workflow {"1" while walk entries or passed deadlines are left, else "", flag}, the flag as in a
--   header: topics of some waits are to be notified.
-- Bound: 64 workflows, 200 timers, and the call's budget of edges; a workflow with a walk comes alone.
-- Writes: records, counts, evidence, ready queue, timers, statistics. A timer that the records do not imply
--   is moved to its right time, or removed.
-- Publishes: step_available, workflow_terminal.
local STATE = { r = "r", l = "e" }

-- Whether a lease was extended before the clock was set back, in a workflow that has not moved since: by the new
-- clock it would last longer by as much as the clock was set back.
local function follow_clock(tx, workflow, name, step, before)
  if before and not workflow.listed and claims.due(workflow, step) > before then
    claims.shorten(tx, workflow, name, step, before - tx.ms)
  end
end

local function fire_step(tx, workflow, kind, name, before)
  local step = workflow.h and transaction.step(workflow, name)
  if not step or step.state ~= STATE[kind] then
    transaction.drop_timer(tx, workflow, kind, name)
    return
  end
  if kind == "l" then
    follow_clock(tx, workflow, name, step, before)
  end
  local due = kind == "l" and claims.due(workflow, step) or workflow.h.inserted + step.due
  if due > tx.ms then
    transaction.set_timer(tx, workflow, kind, name, due)
  elseif kind == "l" then
    claims.lapse(tx, workflow, name, step)
  else
    transitions.run_again(tx, workflow, name, step)
  end
end

-- Carries out a start or a deadline if it is due. Returns whether its timer is to be kept.
local function fire_due(kind)
  return function(tx, workflow)
    requests.fire(tx, workflow)
    local due = branching.dues(workflow)[kind]
    branching.place_timer(tx, workflow, kind, due)
    return due
  end
end

local FIRE_OWN = {
  w = function(_, workflow)
    workflow.notices = workflow.notices or {} -- its timer follows
    return true
  end,
  u = function(tx, workflow)
    return propagate.advance(tx, workflow)
  end,
  b = fire_due("b"),
  d = fire_due("d"),
}

-- Handles a timer of the workflow as a whole.
local function fire_own(tx, workflow, kind)
  if not (workflow.h and FIRE_OWN[kind](tx, workflow)) then
    tx.timers = tx.timers or {}
    tx.timers[kind .. "|" .. workflow.id] = false
  end
end

-- Opens the workflows of the timers, with the records of the steps that these name. Returns the names, by slot.
local function open(tx, timers)
  local names = {}
  for i = 1, #timers do
    local timer = timers[i]
    local some = names[timer.slot] or {}
    names[timer.slot] = some
    if STATE[timer.kind] then
      some[#some + 1] = timer.step
    end
  end
  for slot = 1, #names do
    transaction.workflow(tx, slot, names[slot])
  end
  return names
end

local function is_other(workflow)
  return workflow.h and not states.IMPLEMENTED[workflow.h.semantics]
end

return function(tx, clock_before_ms, timers)
  local more, reply, names = {}, {}, open(tx, timers)
  for slot = 1, #names do
    more[slot] = expiry.expire(tx, tx.workflows[slot], names[slot])
  end
  for i = 1, #timers do
    local timer = timers[i]
    local workflow = tx.workflows[timer.slot]
    if not is_other(workflow) then
      if STATE[timer.kind] then
        fire_step(tx, workflow, timer.kind, timer.step, clock_before_ms)
      else
        fire_own(tx, workflow, timer.kind)
      end
    end
  end
  for slot = 1, #names do
    claims.walk_lapsed(tx, tx.workflows[slot])
  end
  flush.commit(tx)
  for slot = 1, #names do
    local workflow = tx.workflows[slot]
    local own = workflow.h and not is_other(workflow)
    local unfinished = own and (more[slot] or workflow.h.head < workflow.h.tail)
    reply[slot] = { unfinished and "1" or "", own and waits.flag(workflow) or "" }
  end
  return reply
end
