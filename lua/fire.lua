-- fire: does what is due for a workflow: retries run again, passed leases are taken away, waits expire,
-- what is left to be walked goes a slice further.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before; then for each timer its kind and step: "r" a
--   retry, "l" a lease; "w" waits and "u" what is to be walked, without a step.
-- Reply: {"1" while walk entries or passed deadlines are left, else "", flag}, the flag as in a header: some
--   waits' topics are to be told.
-- Writes: records, counts, evidence, ready queue, timers, statistics. A timer that the records do not imply
--   is moved to where it belongs, or removed.
-- Publishes: step_available, workflow_terminal.
local FIRST_TIMER = 3
local STATE = { r = "r", l = "e" }

local function fire_step(call_, flow, kind, name)
  local step = flow.h and call.step(flow, name)
  if not step or step.state ~= STATE[kind] then
    call.drop_timer(call_, flow, kind, name)
    return
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

return function(keys, args)
  local call_, names = call.open(keys), {}
  for at = FIRST_TIMER, #args, 2 do
    if STATE[args[at]] then
      names[#names + 1] = args[at + 1]
    end
  end
  local flow = call.flow(call_, 1, names)
  if flow.h and flow.h.semantics ~= states.VERSION then
    return { "", "" }
  end
  local more = waits.expire(call_, flow, names)
  for at = FIRST_TIMER, #args, 2 do
    if STATE[args[at]] then
      fire_step(call_, flow, args[at], args[at + 1])
    else
      fire_own(call_, flow, args[at])
    end
  end
  claims.walk_lapsed(call_, flow)
  flush.commit(call_, args[1])
  local unfinished = flow.h and (more or flow.h.head < flow.h.tail)
  return { unfinished and "1" or "", flow.h and waits.flag(flow) or "" }
end
