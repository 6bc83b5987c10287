-- Ends of steps by queue, and of workflows by name: fields of the statistics, of a bounded number of names in a partition.
--   "qe|QUEUE"        steps that have ended, other than by a cascade
--   "qm|QUEUE|SLOT"   those of one minute: its number, times PER_MINUTE, and how many; slots are used in turn
--   "we|NAME|STATE"   workflows that have ended so
--   "qn", "wn"        how many names there are of each kind; those that come later count as "other"
local M = {}

local PER_MINUTE = 10000000
local OTHER = "other"

-- Notes a step that has ended.
function M.step(tx, step)
  local finished, name = tx.finished or {}, match(step.class, "^[^:]+")
  finished[name], tx.finished = (finished[name] or 0) + 1, finished
end

-- Notes a workflow that has ended.
function M.workflow(tx, workflow, state)
  local names = tx.names or {}
  local field = header.name(workflow.static) .. "|" .. state
  names[field], tx.names = (names[field] or 0) + 1, names
end

local function number(text)
  return tonumber(text or nil) or 0
end

local function set(sets, field, value)
  local at = #sets
  sets[at + 1], sets[at + 2] = field, format("%.0f", value)
end

-- Whether one more name is counted apart; known has how many of a kind there are with it.
local function admit(stats, known, kind)
  local count = known[kind] or number(command("HGET", stats, kind))
  local free = count < states.NAMES_COUNTED
  known[kind] = free and count + 1 or count
  return free
end

-- The count of a minute, with what has ended in this one.
local function in_minute(before, minute, by)
  return floor(before / PER_MINUTE) == minute and before + by or minute * PER_MINUTE + by
end

local function plan_steps(tx, stats, sets, known, name, by)
  local minute = floor(tx.ms / 60000)
  local own, slot = "qe|" .. name, "qm|" .. name .. "|" .. integer.text(minute % states.MINUTES_COUNTED)
  local found = command("HMGET", stats, own, slot)
  if not found[1] and name ~= OTHER and not admit(stats, known, "qn") then
    return by
  end
  set(sets, own, number(found[1]) + by)
  set(sets, slot, in_minute(number(found[2]), minute, by))
  return 0
end

local function plan_workflows(stats, sets, known, name, state, by)
  local field = "we|" .. name .. "|" .. state
  local found = command("HGET", stats, field)
  if not found and name ~= OTHER and not admit(stats, known, "wn") then
    return by
  end
  set(sets, field, number(found) + by)
  return 0
end

-- Adds to the fields of the statistics that are to be set what was noted.
function M.plan(tx, sets)
  local stats, known, others, of_others = tx.keys[keyslots.STATS], {}, 0, {}
  local finished, names = tx.finished or {}, tx.names or {}
  for name, by in pairs(finished) do
    if name ~= OTHER then
      others = others + plan_steps(tx, stats, sets, known, name, by)
    end
  end
  others = others + (finished[OTHER] or 0)
  if others > 0 then
    plan_steps(tx, stats, sets, known, OTHER, others)
  end
  for field, by in pairs(names) do
    local name, state = match(field, "^([^|]*)|(.*)$")
    local left = name == OTHER and by or plan_workflows(stats, sets, known, name, state, by)
    of_others[state] = (of_others[state] or 0) + left
  end
  for state, by in pairs(of_others) do
    if by > 0 then
      plan_workflows(stats, sets, known, OTHER, state, by)
    end
  end
  for kind, count in pairs(known) do
    set(sets, kind, count)
  end
end

return M
