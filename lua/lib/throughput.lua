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

local function step_fields(tx, name)
  local minute = floor(tx.ms / 60000)
  return "qe|" .. name, "qm|" .. name .. "|" .. integer.text(minute % states.MINUTES_COUNTED), minute
end

local NONE = {}

-- Adds to these fields of the statistics those that plan is to know.
function M.list(tx, fields)
  for name in pairs(tx.finished or NONE) do
    local at = #fields
    fields[at + 1], fields[at + 2] = step_fields(tx, name)
  end
  for field in pairs(tx.names or NONE) do
    fields[#fields + 1] = "we|" .. field
  end
end

local function number(text)
  return tonumber(text or nil) or 0
end

-- A field's value; one that was not listed is read.
local function value(tx, found, field)
  if found[field] == nil then
    found[field] = command("HGET", tx.keys[keyslots.STATS], field)
  end
  return found[field]
end

-- Whether one more name is counted apart; known has how many of a kind there are with it.
local function admit(tx, found, known, kind)
  local count = known[kind] or number(value(tx, found, kind))
  local free = count < states.NAMES_COUNTED
  known[kind] = free and count + 1 or count
  return free
end

-- The count of a minute, with what has ended in this one.
local function in_minute(before, minute, by)
  return floor(before / PER_MINUTE) == minute and before + by or minute * PER_MINUTE + by
end

local function plan_steps(tx, found, sets, known, name, by)
  local own, slot, minute = step_fields(tx, name)
  local before = value(tx, found, own)
  if not before and name ~= OTHER and not admit(tx, found, known, "qn") then
    return by
  end
  local at = #sets
  sets[at + 1], sets[at + 2] = own, format("%.0f", number(before) + by)
  sets[at + 3], sets[at + 4] = slot, format("%.0f", in_minute(number(value(tx, found, slot)), minute, by))
  return 0
end

local function plan_workflows(tx, found, sets, known, name, state, by)
  local field = "we|" .. name .. "|" .. state
  local before = value(tx, found, field)
  if not before and name ~= OTHER and not admit(tx, found, known, "wn") then
    return by
  end
  local at = #sets
  sets[at + 1], sets[at + 2] = field, format("%.0f", number(before) + by)
  return 0
end

-- Adds what was noted to the fields of the statistics that are to be set; found has the values of those listed.
function M.plan(tx, sets, found)
  local known, others, of_others = {}, 0, {}
  for name, by in pairs(tx.finished or NONE) do
    others = others + (name == OTHER and by or plan_steps(tx, found, sets, known, name, by))
  end
  if others > 0 then
    plan_steps(tx, found, sets, known, OTHER, others)
  end
  for field, by in pairs(tx.names or NONE) do
    local name, state = match(field, "^([^|]*)|(.*)$")
    local left = name == OTHER and by or plan_workflows(tx, found, sets, known, name, state, by)
    of_others[state] = (of_others[state] or 0) + left
  end
  for state, by in pairs(of_others) do
    if by > 0 then
      plan_workflows(tx, found, sets, known, OTHER, state, by)
    end
  end
  for kind, count in pairs(known) do
    sets[#sets + 1], sets[#sets + 2] = kind, integer.text(count)
  end
end

return M
