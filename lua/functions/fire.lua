-- fire: does what is due for some workflows: retries run again, passed leases are taken away, waits expire,
-- what is left to be walked goes a slice further.
--
-- Keys: the partition's, then each workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before; the server's time (ms) before its clock was set back,
--   for timers that are looked at because of that, else ""; then for each timer its workflow's slot, its kind
--   and its step: "r" a retry, "l" a lease; "w" waits and "u" what is to be walked, without a step.
-- Reply: for each workflow {"1" while walk entries or passed deadlines are left, else "", flag}, the flag as in a
--   header: some waits' topics are to be told.
-- Bound: 64 workflows, 200 timers, and the call's budget of edges; a workflow with a walk comes alone.
-- Writes: records, counts, evidence, ready queue, timers, statistics. A timer that the records do not imply
--   is moved to where it belongs, or removed.
-- Publishes: step_available, workflow_terminal.
local FIRST_TIMER, WIDTH = 4, 3
local STATE = { r = "r", l = "e" }

-- A lease that was extended before the clock was set back, in a workflow that has not moved since: what the clock
-- was set back by would have to pass as well.
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

local FIRE_OWN = {
  w = function(_, workflow)
    workflow.agenda = workflow.agenda or {} -- its timer follows
    return true
  end,
  u = function(tx, workflow)
    return propagate.advance(tx, workflow)
  end,
}

-- A timer of the workflow as a whole.
local function fire_own(tx, workflow, kind)
  if not (workflow.h and FIRE_OWN[kind](tx, workflow)) then
    tx.timers = tx.timers or {}
    tx.timers[kind .. "|" .. workflow.id] = false
  end
end

-- The workflows of the timers, by slot, with the records of the steps that these name.
local function open(tx, args)
  local names = {}
  for at = FIRST_TIMER, #args, WIDTH do
    local slot = tonumber(args[at])
    names[slot] = names[slot] or {}
    if STATE[args[at + 1]] then
      table.insert(names[slot], args[at + 2])
    end
  end
  for slot = 1, #names do
    transaction.workflow(tx, slot, names[slot])
  end
  return names
end

local function is_other(workflow)
  return workflow.h and workflow.h.semantics ~= states.VERSION
end

return function(keys, args)
  local tx, more, reply, before = transaction.open(keys), {}, {}, tonumber(args[3])
  local names = open(tx, args)
  for slot = 1, #names do
    more[slot] = expiry.expire(tx, tx.workflows[slot], names[slot])
  end
  for at = FIRST_TIMER, #args, WIDTH do
    local workflow, kind = tx.workflows[tonumber(args[at])], args[at + 1]
    if not is_other(workflow) then
      if STATE[kind] then
        fire_step(tx, workflow, kind, args[at + 2], before)
      else
        fire_own(tx, workflow, kind)
      end
    end
  end
  for slot = 1, #names do
    claims.walk_lapsed(tx, tx.workflows[slot])
  end
  flush.commit(tx, args[1])
  for slot = 1, #names do
    local workflow = tx.workflows[slot]
    local own = workflow.h and not is_other(workflow)
    local unfinished = own and (more[slot] or workflow.h.head < workflow.h.tail)
    reply[slot] = { unfinished and "1" or "", own and waits.flag(workflow) or "" }
  end
  return reply
end
