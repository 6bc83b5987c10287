-- Ends of steps by queue, and of workflows by name: fields of the statistics, of a bounded number of names in a partition.
--   "qe|QUEUE"        steps that have ended, other than by a cascade
--   "qm|QUEUE|SLOT"   those of one minute: its number, times PER_MINUTE, and how many; slots are used in turn
--   "we|NAME|STATE"   workflows that have ended so
--   "qn", "wn"        how many names there are of each kind; those that come later count as "other"
local M = {}

local PER_MINUTE, LARGEST = 10000000, 2 ^ 53
local OTHER = "other"
local NONE = {}

-- Notes a step that has ended.
function M.step(tx, step)
  local finished, class = tx.finished or {}, step.class
  finished[class], tx.finished = (finished[class] or 0) + 1, finished
end

-- Notes a workflow that has ended.
function M.workflow(tx, workflow, state)
  local names = tx.names or {}
  local field = header.name(workflow.static) .. "|" .. state
  names[field], tx.names = (names[field] or 0) + 1, names
end

local function by_queue(finished)
  local found = {}
  for class, by in pairs(finished) do
    local name = match(class, "^[^:]+")
    found[name] = (found[name] or 0) + by
  end
  return found
end

local function minute_field(name, minute)
  return "qm|" .. name .. "|" .. integer.text(minute % states.MINUTES_COUNTED)
end

-- Adds to these fields of the statistics those that plan is to know.
function M.list(tx, fields)
  local at, minute = #fields, floor(tx.ms / 60000)
  tx.finished = tx.finished and by_queue(tx.finished)
  for name in pairs(tx.finished or NONE) do
    fields[at + 1], fields[at + 2] = "qe|" .. name, minute_field(name, minute)
    at = at + 2
  end
  for field in pairs(tx.names or NONE) do
    at = at + 1
    fields[at] = "we|" .. field
  end
end

-- A count; one that somebody has spoilt starts anew.
local function number(text)
  local count = tonumber(text or nil) or 0
  return count >= 0 and count < LARGEST and count or 0
end

local function read(tx, field)
  return command("HGET", tx.keys[keyslots.STATS], field)
end

-- Whether one more name of a kind is counted apart; tx.known has how many there are with it.
local function admit(tx, kind)
  local known = tx.known or {}
  local count = known[kind] or number(read(tx, kind))
  local free = count < states.NAMES_COUNTED
  known[kind], tx.known = free and count + 1 or count, known
  return free
end

local function add(sets, field, before, by)
  local at = #sets
  sets[at + 1], sets[at + 2] = field, integer.text(number(before) + by)
end

-- Adds to the count of a minute, which begins anew where its slot has that of an earlier one.
local function add_in_minute(sets, field, before, minute, by)
  local count = number(before)
  add(sets, field, floor(count / PER_MINUTE) == minute and count or minute * PER_MINUTE, by)
end

local function plan_steps(tx, sets, fields, values, at)
  local minute, others = floor(tx.ms / 60000), 0
  for name, by in pairs(tx.finished) do
    if name ~= OTHER and (values[at + 1] or admit(tx, "qn")) then
      add(sets, fields[at + 1], values[at + 1], by)
      add_in_minute(sets, fields[at + 2], values[at + 2], minute, by)
    else
      others = others + by
    end
    at = at + 2
  end
  if others > 0 then
    local field, slot = "qe|" .. OTHER, minute_field(OTHER, minute)
    add(sets, field, read(tx, field), others)
    add_in_minute(sets, slot, read(tx, slot), minute, others)
  end
  return at
end

local function plan_workflows(tx, sets, fields, values, at)
  local others = {}
  for field, by in pairs(tx.names) do
    local name, state = match(field, "^([^|]*)|(.*)$")
    at = at + 1
    if name ~= OTHER and (values[at] or admit(tx, "wn")) then
      add(sets, fields[at], values[at], by)
    else
      others[state] = (others[state] or 0) + by
    end
  end
  for state, by in pairs(others) do
    local field = "we|" .. OTHER .. "|" .. state
    add(sets, field, read(tx, field), by)
  end
end

-- Adds what was noted to the fields of the statistics that are to be set. From "at" on, fields has those that list has
-- added, and values their values.
function M.plan(tx, sets, fields, values, at)
  if tx.finished then
    at = plan_steps(tx, sets, fields, values, at)
  end
  if tx.names then
    plan_workflows(tx, sets, fields, values, at)
  end
  for kind, count in pairs(tx.known or NONE) do
    sets[#sets + 1], sets[#sets + 2] = kind, integer.text(count)
  end
end

return M
