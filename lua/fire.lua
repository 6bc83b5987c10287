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
local function follow_clock(call_, flow, name, step, before)
  if before and not flow.listed and claims.due(flow, step) > before then
    claims.shorten(call_, flow, name, step, before - call_.ms)
  end
end

local function fire_step(call_, flow, kind, name, before)
  local step = flow.h and call.step(flow, name)
  if not step or step.state ~= STATE[kind] then
    call.drop_timer(call_, flow, kind, name)
    return
  end
  if kind == "l" then
    follow_clock(call_, flow, name, step, before)
  end
  local due = kind == "l" and claims.due(flow, step) or flow.h.inserted + step.due
  if due > call_.ms then
    call.set_timer(call_, flow, kind, name, due)
  elseif kind == "l" then
    claims.lapse(call_, flow, name, step)
  else
    moves.run_again(call_, flow, name, step)
  end
end

local FIRE_OWN = {
  w = function(_, flow)
    flow.agenda = flow.agenda or {} -- its timer follows
    return true
  end,
  u = function(call_, flow)
    return walk.advance(call_, flow)
  end,
}

-- A timer of the workflow as a whole.
local function fire_own(call_, flow, kind)
  if not (flow.h and FIRE_OWN[kind](call_, flow)) then
    call_.timers = call_.timers or {}
    call_.timers[kind .. "|" .. flow.id] = false
  end
end

-- The workflows of the timers, by slot, with the records of the steps that these name.
local function open(call_, args)
  local names = {}
  for at = FIRST_TIMER, #args, WIDTH do
    local slot = tonumber(args[at])
    names[slot] = names[slot] or {}
    if STATE[args[at + 1]] then
      table.insert(names[slot], args[at + 2])
    end
  end
  for slot = 1, #names do
    call.flow(call_, slot, names[slot])
  end
  return names
end

local function is_other(flow)
  return flow.h and flow.h.semantics ~= states.VERSION
end

return function(keys, args)
  local call_, more, reply, before = call.open(keys), {}, {}, tonumber(args[3])
  local names = open(call_, args)
  for slot = 1, #names do
    more[slot] = waits.expire(call_, call_.flows[slot], names[slot])
  end
  for at = FIRST_TIMER, #args, WIDTH do
    local flow, kind = call_.flows[tonumber(args[at])], args[at + 1]
    if not is_other(flow) then
      if STATE[kind] then
        fire_step(call_, flow, kind, args[at + 2], before)
      else
        fire_own(call_, flow, kind)
      end
    end
  end
  for slot = 1, #names do
    claims.walk_lapsed(call_, call_.flows[slot])
  end
  flush.commit(call_, args[1])
  for slot = 1, #names do
    local flow = call_.flows[slot]
    local own = flow.h and not is_other(flow)
    local unfinished = own and (more[slot] or flow.h.head < flow.h.tail)
    reply[slot] = { unfinished and "1" or "", own and waits.flag(flow) or "" }
  end
  return reply
end
