-- Handing steps out: an entry of the ready queue, taken out before, becomes a claim.
-- A claim as it is told: {record, input, context, wait, signal's payload, references, when the workflow was
-- inserted, its context}; references are step, what it is, payload, ...: "n" null, "v" a value, "m" missing.
local M = {}

-- The claimer, from four arguments: token, worker (quoted), lease in milliseconds.
function M.claimer(args, at)
  return { token = args[at], worker = args[at + 1], lease_ms = args[at + 2] }
end

-- Whether steps of a workflow may be started at all.
local function is_open(flow)
  return flow.h.semantics == states.VERSION and flow.h.cancel == ""
end

-- Starts an entry's step; false when it is not to be had. An entry whose step has gone elsewhere is
-- dropped; one whose workflow may not be touched goes back by itself. With again, a claim that this very
-- call made before is told once more.
function M.start(call_, flow, entry, claimer, again)
  local step = flow.h and call.step(flow, entry.step)
  entry.static = step and step.static
  if step and again and claims.has_token(step, claimer.token) then
    return true
  end
  if not step or step.state ~= "a" or step.class .. "|" .. step.order ~= entry.place then
    call_.queued[entry.place .. "|" .. flow.id .. "|" .. entry.step] = false
    return false
  end
  if not is_open(flow) then
    return false
  end
  claims.start(call_, flow, entry.step, step, claimer.token, claimer.worker, claimer.lease_ms)
  return true
end

-- The latest result of a completed step: what it is, and its payload. None was given for a null.
local function result_of(flow, name, step)
  local attempt = name .. ":" .. step.reported
  local payload = command("HGET", flow.p, "o:" .. attempt)
  if payload then
    return "v", payload
  end
  if command("HEXISTS", flow.p, "r:" .. attempt) == 1 then
    return "v", "null"
  end
  return "m", false
end

-- What became of the steps that an input refers to.
local function references(flow, name)
  local text = command("HGET", flow.p, "f:" .. name) or ""
  local names, found = {}, {}
  for parent in gmatch(text, "[^,]+") do
    names[#names + 1] = parent
  end
  call.fetch(flow, names)
  for i = 1, #names do
    local step = call.step(flow, names[i])
    local kind, payload = "n", false
    if step.state == "c" and step.cause ~= states.SKIPPED.cause then
      kind, payload = result_of(flow, names[i], step)
    end
    found[#found + 1], found[#found + 2], found[#found + 3] = names[i], kind, payload
  end
  return found
end

-- An entry whose step was started, as its claimer is told.
local function answer(entry)
  local flow, name, payloads = entry.flow, entry.step, record.payloads(entry.static)
  local reply = {
    call.text(flow, name), false, false, false, false, {}, flow.h.inserted,
    flow.h.context == "c" and command("HGET", flow.p, ":"),
  }
  if payloads ~= "" then
    local found = command("HMGET", flow.p, "i:" .. name, "c:" .. name)
    reply[2], reply[3] = found[1], found[2]
    if find(payloads, "r", 1, true) then
      reply[6] = references(flow, name)
    end
  end
  local wait = flow.waited and waits.latest(flow, name)
  if wait and wait.status == "r" then
    reply[4], reply[5] = waits.write(wait), command("HGET", flow.p, "s:" .. name)
  end
  return reply
end

-- The call's workflows of which steps may be started: their slots, by id.
local function open_slots(call_)
  local slots = {}
  for slot = 1, #call_.flows do
    local flow = call_.flows[slot]
    if flow.h and is_open(flow) then
      slots[flow.id] = slot
    end
  end
  return slots
end

-- How far back, and among how many leases, the claims of a call are looked for whose reply was lost.
local LOST_MS, LOST_AMONG = 60000, "1000"

-- The claims that a call has made in these workflows before its reply was lost, as entries without a
-- place: they are found by when their leases end.
local function claimed_before(call_, slots, claimer)
  local found, latest = {}, call_.ms + claimer.lease_ms
  local timers = command(
    "ZREVRANGEBYSCORE", call_.keys[keyslots.TIMERS], call.number(latest), call.number(latest - LOST_MS),
    "LIMIT", "0", LOST_AMONG
  )
  for i = 1, #timers do
    local id, name = match(timers[i], "^l|([^|]+)|(.+)$")
    local step = slots[id] and call.step(call_.flows[slots[id]], name)
    if step and claims.has_token(step, claimer.token) then
      found[#found + 1] = "|" .. id .. "|" .. name
    end
  end
  return found
end

-- Those of these entries that are of the call's own workflows, as start takes them, with their steps'
-- records present; false for others.
local function own_entries(call_, slots, found)
  local own, names = {}, {}
  for i = 1, #found do
    local place, id, step = match(found[i], "^([^|]*|?%x*)|([^|]+)|([^|]+)$")
    local slot = slots[id]
    own[i] = slot and { flow = call_.flows[slot], step = step, place = place } or false
    if slot then
      local some = names[slot] or {}
      some[#some + 1], names[slot] = step, some
    end
  end
  for slot, some in pairs(names) do
    call.fetch(call_.flows[slot], some)
  end
  return own
end

-- Takes the next entries of the queues (separated by commas), and starts those whose workflows the call
-- has opened; the others stay reserved. Returns the entries, and what became of each: what answer takes,
-- or false.
function M.next(call_, queues, limit, claimer, again)
  local names, slots = {}, open_slots(call_)
  for name in gmatch(queues, "[^,]+") do
    names[#names + 1] = name
  end
  local found = again and claimed_before(call_, slots, claimer) or {}
  local fresh = #found < limit and queue.take(call_, names, limit - #found, slots) or {}
  for i = 1, #fresh do
    found[#found + 1] = fresh[i]
  end
  local own = own_entries(call_, slots, found)
  for i = 1, #found do
    own[i] = own[i] and M.start(call_, own[i].flow, own[i], claimer, again) and own[i]
  end
  return found, own
end

-- Makes the waits of started steps present, with one read for each workflow.
local function load_waits(started)
  local names = {}
  for i = 1, #started do
    local entry = started[i]
    if entry and entry.flow.waited then
      local some = names[entry.flow] or {}
      some[#some + 1], names[entry.flow] = entry.step, some
    end
  end
  for flow, some in pairs(names) do
    waits.load(flow, some)
  end
end

-- Tells what became of entries that were started, or not; only after the call's writes.
function M.tell(started)
  load_waits(started)
  for i = 1, #started do
    started[i] = started[i] and answer(started[i])
  end
  return started
end

return M
