-- prune: removes a finished workflow whose retention is over, in as many calls as that takes.
--
-- Bound: 100 waits of one chunk of steps, or one chunk (200) of callbacks; keys are unlinked, and freed beside
--   the calls.
-- Writes: with the first call, which makes the workflow invisible, both indexes, statistics, header; with each,
--   how far the removal has come; with the last, its keys. One call does it all where nothing in other partitions
--   belongs to the workflow. The timer is kept until the end; that of a workflow which is to be kept is corrected.
--
-- Callbacks that are still to be delivered keep a workflow for 7 days after its retention; then they are dead. Where
-- there has never been a dispatcher they keep nothing. The namespace's record, in another partition, says so. It is read
-- after this call has returned the number of callbacks, so that none of them was written after a dispatcher was seen.
--
-- The removal's record takes the place of the header. The id of a workflow with an insert key stays marked as unusable
-- for a while: a client that read the key just before might still insert under that id.
local START, END = "0,1,1", "end"
local WAITS_PER_CALL = 100

local function answer(outcome, found)
  found = found or {}
  return { outcome, found.place or "", found.key or false, found.waits or {}, found.callbacks or 0, found.first or 0 }
end

-- The answer for a workflow that is kept until this time, or for ever.
local function kept_until(tx, workflow, due)
  tx.timers = { [header.removal_timer(workflow)] = due and integer.text(due) or false }
  return answer("kept")
end

-- Whether callbacks of the partition were ever tried: a dispatcher of an earlier release leaves no other trace.
local function were_tried(tx)
  local fields = {}
  for _, event in pairs(states.EVENT_NAME) do
    fields[#fields + 1] = "cb|" .. event .. "|delivered"
    fields[#fields + 1] = "cb|" .. event .. "|failed"
  end
  local counts = command("HMGET", tx.keys[keyslots.STATS], unpack(fields))
  for i = 1, #fields do
    if counts[i] then
      return true
    end
  end
  return false
end

-- Marks undelivered callbacks from this one on as dead, as many as one call may look at.
local function give_up(tx, workflow, first, counted)
  if first > workflow.h.callbacks then
    return answer("kept") -- the header's count is wrong, which a sweep corrects
  end
  local dead = 0
  for number = first, min(first + states.CHUNK - 1, workflow.h.callbacks) do
    local c = outbox.read(workflow, integer.text(number))
    if c and c.due ~= "" then
      outbox.give_up(tx, workflow, c, counted)
      dead = dead + 1
    end
  end
  return answer("given_up", { callbacks = counted and dead or 0, first = first + states.CHUNK })
end

-- The effect of undelivered callbacks on a removal; nil when there is none.
local function undelivered(tx, workflow, asked)
  local nobody, seen = asked.never_seen_for == workflow.h.callbacks, asked.dispatcher_seen
  if nobody and were_tried(tx) then
    nobody, seen = false, true
  end
  if nobody and workflow.h.callbacks <= states.CHUNK then
    outbox.drop_all(tx, workflow)
    return nil
  elseif nobody then
    return give_up(tx, workflow, asked.first, false)
  elseif not seen then
    return answer("undelivered", { callbacks = workflow.h.callbacks })
  end
  local due = workflow.removal + states.CALLBACK_KEPT_MS
  return due > tx.ms and kept_until(tx, workflow, due) or give_up(tx, workflow, asked.first, true)
end

-- The reason why the workflow cannot be removed now, as a reply, or nil.
local function obstacle(tx, workflow, asked)
  if not states.IMPLEMENTED[workflow.h.semantics] then
    return answer("kept")
  end
  if workflow.listed then
    return answer("kept") -- it is first moved to the new clock, and its timer with it
  end
  if not workflow.removal or workflow.removal > tx.ms then
    return kept_until(tx, workflow, workflow.removal)
  end
  local reply = workflow.h.open > 0 and undelivered(tx, workflow, asked)
  return reply or (waits.flag(workflow) ~= "" and answer("unacked") or nil)
end

-- Takes the workflow out of all gauges and listings.
local function withdraw(tx, workflow)
  local h = workflow.h
  tx.index = { [header.index_member(workflow, states.WORKFLOW_CODE[workflow.was])] = false }
  transaction.place_tags(tx, workflow, header.place(workflow), false)
  for i = 1, #states.CODES do
    transaction.count(tx, states.STEP_GAUGE[states.CODES[i]], -branching.steps_in(workflow, states.CODES[i]))
  end
  transaction.count(tx, states.WORKFLOW_GAUGE[workflow.was], -1)
  transaction.count(tx, states.CALLBACK_GAUGE.x, -h.dead)
  transaction.count(tx, states.CALLBACK_GAUGE.p, -h.open)
  transaction.count(tx, states.CALLBACK_GAUGE.d, h.dead + h.open - h.callbacks)
end

-- The waits from a place on, within one chunk of steps, and the place behind them; nil behind the last.
local function page(workflow, from)
  local chunk, first, n = match(from, "^(%d+),(%d+),(%d+)$")
  local text = chunk and workflow.waited and command("HGET", workflow.w, "#" .. chunk)
  if not text then
    return nil
  end
  local names, found = {}, {}
  for name in gmatch(text, "[^,]+") do
    names[#names + 1] = name
  end
  waits.load(workflow, names)
  for at = tonumber(first), #names do
    local latest = workflow.waits[names[at]]
    for number = tonumber(n), latest and latest.n or 0 do
      if #found == WAITS_PER_CALL then
        return found, chunk .. "," .. integer.text(at) .. "," .. integer.text(number)
      end
      local wait = waits.numbered(workflow, names[at], number)
      found[#found + 1] = { names[at], wait.signal_id, wait.topic, number }
    end
    n = 1
  end
  return found, integer.text(chunk + 1) .. ",1,1"
end

local function remove(tx, workflow)
  local keyed = command("HEXISTS", workflow.w, ":k") == 1
  command("ZREM", tx.keys[keyslots.TIMERS], header.removal_timer(workflow))
  command("UNLINK", keyslots.workflow(tx.keys, 1))
  if keyed then
    command("HSET", workflow.w, header.UNUSABLE, "1")
    command("PEXPIRE", workflow.w, states.INSERT_MS)
  end
  return answer("removed")
end

local function go_on(tx, workflow, from)
  local keyed, found, place = from == START and command("HGET", workflow.w, ":k"), page(workflow, from)
  if not keyed and not found then
    return remove(tx, workflow)
  end
  return answer("removing", { place = place or END, key = keyed, waits = found })
end

local function begin(tx, workflow, asked)
  local reply = obstacle(tx, workflow, asked)
  if not reply then
    withdraw(tx, workflow)
    transaction.set(workflow, header.UNUSABLE, codec.write_removal({ semantics = states.VERSION, place = START }))
    workflow.gone = { ":s", ":c" }
  end
  flush.commit(tx)
  return reply or go_on(tx, workflow, START)
end

return function(tx, place, dispatcher_seen, never_seen_for, first)
  local workflow = transaction.workflow(tx, 1, { header.UNUSABLE })
  if workflow.h then
    local asked = { dispatcher_seen = dispatcher_seen, never_seen_for = never_seen_for, first = first }
    return begin(tx, workflow, asked)
  end
  local stored = workflow.raw[header.UNUSABLE]
  if not stored or stored == header.BURIED then
    command("ZREM", tx.keys[keyslots.TIMERS], header.removal_timer(workflow))
    return answer("gone")
  end
  local removal = codec.read_removal(stored)
  if removal.semantics ~= states.VERSION then
    return answer("kept")
  end
  if place then
    removal.place = place
    command("HSET", workflow.w, header.UNUSABLE, codec.write_removal(removal))
  end
  return go_on(tx, workflow, removal.place)
end
