-- One call's view of its partition: the values it has read, and its plan of writes.
--
-- A function reads and plans on the copies held here, and calls flush.commit once. Nothing is written
-- before that, so a refusal, or an error while planning, leaves no trace.
--
-- Tables that few calls need (index, tags, timers, reserved, served, outbox, log, woken, ended; of a workflow fields,
-- gone, accepted, noise, positions, listed) are made when they are first used: an empty table costs a good part of a
-- microsecond. Marks of a workflow are set only when needed, too: walked, when its entries of unfinished walks have
-- changed; moved, when its header is to be written after a transition; and marked, when it is to be written for another
-- reason (dead callbacks, review). Together with the fields that each workflow has they fit the 16 that Lua allots.
local M = {}

M.TAG_GAUGE = "gt|tags" -- the field of the statistics that counts the entries due in the tag index
M.ANY_WAIT = ":w" -- the field is there once any step of the workflow has waited

-- Whether a key is of this type, or does not exist.
function M.is_type(key, kind)
  local found = command("TYPE", key).ok
  return found == kind or found == "none"
end

-- Drops a derived key of another type, as after an overwrite; its content can be restored from records.
function M.drop_other(key, kind)
  if not M.is_type(key, kind) then
    command("UNLINK", key)
  end
end

-- The namespace's own record: {partitions now, partitions at creation}, both false when there is none.
function M.namespace(key)
  local found = command("HMGET", key, "partitions", "homes")
  for i = 1, 2 do
    if found[i] and not find(found[i], "^[1-9]%d*$") then
      error("the namespace's record holds a number of partitions that is none")
    end
  end
  return found
end

function M.begin(keys, us, ms, verb, again)
  return {
    keys = keys,
    verb = verb, -- the function's name for its hints; nil for a function that publishes none
    again = again, -- whether this very call was sent before
    us = us,
    ms = ms,
    serial = 0,
    budget = states.EDGES_PER_CALL, -- edges that may still be walked
    workflows = {}, -- by slot
    counters = {}, -- changes of the fleet's counters and gauges, by field
    queued = {}, -- members of the ready queue to add (true) or remove (false)
    heads = {}, -- the present round of each class
    rounds = {}, -- the latest round of each urgency before this call
  }
end

-- Opens a call at the server's time, which is read here and nowhere else.
function M.open(keys, verb, again)
  local time = command("TIME")
  local us = time[1] * 1000000 + time[2]
  return M.begin(keys, integer.text(us), floor(us / 1000), verb, again)
end

-- A number that is unique among the records of a partition and grows with time: microseconds, then a number within
-- the call.
function M.stamp(tx)
  tx.serial = tx.serial + 1
  return tx.us .. format("%04d", tx.serial)
end

-- Moves a workflow whose latest transition lies that many milliseconds ahead to the present clock, as the clock was
-- set back since. All its times count from its insertion, so that time is moved: leases and retries keep what was
-- left of them, instead of growing by as much as the clock was set back. Its place in the listing follows, and so do
-- the timers of the steps that this call touches; other timers follow when they are looked at (repair_workflow,
-- fire_timers). flush.lua leaves evidence of it.
local function bring_to_clock(workflow, ahead)
  workflow.listed = header.index_member(workflow, states.WORKFLOW_CODE[workflow.was] or "o")
  workflow.set_back = ahead
  workflow.h.inserted = workflow.h.inserted - ahead
  workflow.since = workflow.h.last
  workflow.static = codec.set_header_inserted(workflow.static, integer.text(workflow.h.inserted))
  M.set(workflow, ":s", workflow.static)
end

-- Opens the workflow in this slot of the keys, with the records of the named steps. workflow.h, its header, is
-- nil when there is none.
function M.workflow(tx, slot, names)
  local w, p = keyslots.workflow(tx.keys, slot)
  local found = command("HMGET", w, ":s", ":c", M.ANY_WAIT, header.TAGS, unpack(names))
  local static, counts, raw, h = found[1], found[2], {}, nil
  for i = 1, #names do
    raw[names[i]] = found[i + 4]
  end
  local b, stored, link
  if static then
    h = header.read(static, counts)
    if h.semantics == states.BRANCHING then
      stored = command("HGET", w, header.BRANCHING) or nil
      b = codec.read_branching(stored or header.NO_BRANCHING)
      h.overdue = b.overdue ~= "" and b.overdue == match(h.cancel, "^%d+")
      link = b.link ~= "" and codec.read_link(b.link) or nil
      h.needed = link and link.state == "f" or nil
    end
  end
  local was = h and states.workflow_state(h)
  local workflow = {
    id = keyslots.id(w), w = w, p = p, -- its other keys are made of w, for the few calls that need them
    static = static, counts = counts, h = h,
    was = was, -- its state before this call
    since = h and integer.text(max(tx.ms - h.inserted, 0)), -- the call's time, as records have it
    raw = raw, -- records as text, by step; false where there is none
    steps = {}, -- records taken apart
    dirty = {}, -- steps to write
    rows = {}, -- fields of the payload hash to set
  }
  if found[3] then
    workflow.waited = true -- some of its steps have waited
  end
  if found[4] then
    workflow.tags = found[4] -- as they are stored; they never change
  end
  if b and h.recovering ~= "" then
    workflow.hides = true -- steps that are being appended may stand there, but are not there yet
  end
  if states.WORKFLOW_CODE[was] then
    workflow.cause = states.workflow_cause(h) -- the cause of its end, before this call
    workflow.removal = header.removal(h) -- when its retention was to end then
    workflow.open = h.open > 0 -- whether callbacks were still to be delivered then
  end
  tx.workflows[slot] = workflow
  if b then
    workflow.b, workflow.stored = b, stored -- of semantics version 3 only: its field ":b" taken apart, and as text
    if link then
      workflow.link, workflow.had_news = link, links.has_news({ link = link, h = h }) -- of a child workflow only
    end
    workflow.dues = branching.dues(workflow)
  end
  local ahead = h and h.inserted + h.last - tx.ms
  if h and ahead > states.AHEAD_MS and states.IMPLEMENTED[h.semantics] then
    bring_to_clock(workflow, ahead)
  end
  return workflow
end

-- Adds the steps that these items name to names, by the slot of their workflow.
function M.steps_by_slot(names, items)
  for i = 1, #items do
    local item = items[i]
    local some = names[item.slot]
    if some then
      some[#some + 1] = item.step
    else
      names[item.slot] = { item.step }
    end
  end
  return names
end

-- Gives an invisible workflow its header, which lacks only the time: from this call on it exists.
function M.create(tx, workflow, static)
  workflow.static = codec.set_header_inserted(static, integer.text(tx.ms))
  local semantics, steps, _, kept, context = codec.header_opening(workflow.static)
  workflow.h = header.new(semantics, steps, tx.ms, kept, context)
  if semantics == states.BRANCHING then
    workflow.b, workflow.dues = codec.read_branching(header.NO_BRANCHING), {}
  end
  M.set(workflow, ":s", workflow.static)
  M.set(workflow, header.ORDER, sub(M.stamp(tx), -7))
  workflow.since = "0"
  workflow.moved = true
  workflow.created = true
  M.count(tx, states.STEP_GAUGE.p, steps)
end

-- Loads the records of all these steps with one read.
function M.fetch(workflow, names)
  local raw = workflow.raw
  if #names == 1 then
    local name = names[1]
    if raw[name] == nil then
      raw[name] = command("HGET", workflow.w, name)
    end
    return
  end
  local missing, count = {}, 0
  for i = 1, #names do
    local name = names[i]
    if raw[name] == nil then
      raw[name] = false
      count = count + 1
      missing[count] = name
    end
  end
  if count > 0 then
    local found = command("HMGET", workflow.w, unpack(missing))
    for i = 1, count do
      raw[missing[i]] = found[i]
    end
  end
end

-- The step's record as a table, or nil. Put its name into workflow.dirty to have changes written. A step is held
-- either as a table or as text, never both.
function M.step(workflow, name)
  local step = workflow.steps[name]
  if step then
    return step
  end
  local text = workflow.raw[name]
  if text == nil then
    text = command("HGET", workflow.w, name)
    workflow.raw[name] = text
  end
  if not text then
    return nil
  end
  step = codec.read_step(text)
  if workflow.hides and codec.step_position(step.static) >= workflow.h.steps then
    return nil
  end
  workflow.steps[name] = step
  return step
end

-- The step's record as text.
function M.text(workflow, name)
  local step = workflow.steps[name]
  if step then
    workflow.raw[name] = codec.write_step(step)
    workflow.steps[name] = nil
  end
  return workflow.raw[name]
end

-- Sets another field of the workflow's hash.
function M.set(workflow, field, value)
  local fields = workflow.fields
  if not fields then
    workflow.fields = { field, value }
    return
  end
  local at = #fields
  fields[at + 1], fields[at + 2] = field, value
end

-- A field of the payload hash; for a workflow that this call creates, also one that is still to be written.
function M.payload(workflow, field)
  if workflow.created then
    for at = 1, #workflow.rows, 2 do
      if workflow.rows[at] == field then
        return workflow.rows[at + 1]
      end
    end
  end
  return command("HGET", workflow.p, field)
end

-- Removes another field of the workflow's hash.
function M.remove(workflow, field)
  local gone = workflow.gone
  if not gone then
    gone = {}
    workflow.gone = gone
  end
  gone[#gone + 1] = field
end

-- Sets a field that this very call may have removed before.
function M.set_again(workflow, field, value)
  local gone = workflow.gone or {}
  for i = #gone, 1, -1 do
    if gone[i] == field then
      gone[i] = gone[#gone]
      gone[#gone] = nil
    end
  end
  M.set(workflow, field, value)
end

-- Adds to one of the fleet's durable counters.
function M.count(tx, field, by)
  local counters = tx.counters
  counters[field] = (counters[field] or 0) + by
end

-- Counts a move of steps under the workflow's own version; the given field names version 2.
function M.count_move(tx, workflow, field, by)
  M.count(tx, workflow.b and sub(field, 1, -2) .. workflow.h.semantics or field, by)
end

-- Puts a workflow of version 2 under version 3, which a command on it needs; its records keep their meaning.
function M.raise_semantics(workflow)
  local h = workflow.h
  workflow.static = codec.set_header_semantics(workflow.static, states.BRANCHING)
  h.semantics, workflow.b, workflow.dues = states.BRANCHING, codec.read_branching(header.NO_BRANCHING), {}
  M.set(workflow, ":s", workflow.static)
end

-- Adds pending steps to a workflow that is there.
function M.add_steps(tx, workflow, count)
  local h = workflow.h
  h.steps, h.p = h.steps + count, h.p + count
  workflow.static = codec.set_header_steps(workflow.static, integer.text(h.steps))
  M.set(workflow, ":s", workflow.static)
  M.count(tx, states.STEP_GAUGE.p, count)
  workflow.moved = true
end

-- Counts steps from one state to another, in their workflow and in the fleet's gauges.
function M.recount(tx, workflow, from, to, by)
  local h, counters, gauge = workflow.h, tx.counters, states.STEP_GAUGE
  local before, after = gauge[from], gauge[to]
  h[from], h[to] = h[from] - by, h[to] + by
  counters[before], counters[after] = (counters[before] or 0) - by, (counters[after] or 0) + by
  workflow.moved = true
end

-- Updates a step's marks of branching, after it has moved. A superseded step has completed to the counts of its
-- header, and is cancelled to clients, and so to the fleet's gauges.
function M.remark(tx, workflow, step, outcome)
  local before = workflow.b.superseded
  branching.follow(workflow, step, outcome)
  local by = workflow.b.superseded - before
  if by ~= 0 then
    M.count(tx, states.STEP_GAUGE.c, -by)
    M.count(tx, states.STEP_GAUGE.x, by)
  end
end

local NONE = {}

-- The workflow's members in the tag index, at its place or one that it had (header.lua).
function M.tag_members(workflow, place)
  if not workflow.tags then
    return NONE
  end
  local members = {}
  for tag in gmatch(workflow.tags, "[^,]+") do
    members[#members + 1] = tag .. "|" .. place
  end
  return members
end

-- Plans to add these entries of the tag index, or to remove them.
function M.place_tags(tx, workflow, place, wanted)
  local members = M.tag_members(workflow, place)
  if #members > 0 then
    tx.tags = tx.tags or {}
    M.count(tx, M.TAG_GAUGE, wanted and #members or -#members)
  end
  for i = 1, #members do
    tx.tags[members[i]] = wanted
  end
end

-- Sets a timer of a step; kind "r": a retry is due, "l": a lease ends.
function M.set_timer(tx, workflow, kind, name, due_ms)
  local timers = tx.timers or {}
  timers[kind .. "|" .. workflow.id .. "|" .. name], tx.timers = integer.text(due_ms), timers
end

function M.drop_timer(tx, workflow, kind, name)
  local timers = tx.timers or {}
  timers[kind .. "|" .. workflow.id .. "|" .. name], tx.timers = false, timers
end

-- Adds and removes members of a sorted set; the score is 0 where only the order of names matters. Returns the members
-- to be removed when some of them were not in the set.
function M.write_members(key, members)
  local added, adds, removed, removals = {}, 0, {}, 0
  for member, score in pairs(members) do
    if score then
      added[adds + 1], added[adds + 2] = score == true and "0" or score, member
      adds = adds + 2
    else
      removals = removals + 1
      removed[removals] = member
    end
  end
  -- Added before removed: listed twice for a moment rather than not at all, so that a sweep finds it.
  if adds > 0 then
    command("ZADD", key, unpack(added, 1, adds))
  end
  local found = removals > 0 and command("ZREM", key, unpack(removed, 1, removals)) or 0
  return found < removals and removed
end

return M
