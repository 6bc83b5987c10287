-- Handing steps out: an entry of the ready queue, taken out before, becomes a claim.
-- A claim as it is told: {record, input, context, wait, signal's payload, references, when the workflow was
-- inserted, its context, what is left}; references are step, what it is, payload, ...: "n" null, "v" a value, "m"
-- missing. All claims of a call share what room its reply has; what is
-- left for the claimer to read by itself (inputs.lua) is named by letters: "p" input and context, "w" the
-- workflow's context, "s" the signal's payload, "r" the references behind those that are told; "!" when
-- somebody has overwritten what it was given, and it cannot be told.
local M = {}

M.UNTOLD = "!"

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
-- call made before is told once more. Notes what never changes of the step, for answer.
function M.start(call_, flow, entry, claimer, again)
  local step = flow.h and call.step(flow, entry.step)
  entry.static = step and step.static
  if step and again and claims.is_held(flow, step, claimer.token) then
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

-- What a reference to a step stands for: what it is, and its payload.
function M.result(flow, name)
  local step = call.step(flow, name)
  if step.state == "c" and step.cause ~= states.SKIPPED.cause then
    return result_of(flow, name, step)
  end
  return "n", false
end

-- How much more of what claims are given goes into a reply: references, bytes of results, and bytes of all
-- else.
function M.room()
  return { references = states.REFERENCES_TOLD, results = states.RESULTS_TOLD, others = states.OTHERS_TOLD }
end

-- Whether these payloads fit in as well. After the first that does not, nothing does: each was read, and is not
-- to be read in vain time and again.
local function fits(room, of, one, other)
  local left = room[of] - #(one or "") - #(other or "")
  room[of] = max(left, 0)
  return left >= 0
end

-- What became of the steps that an input refers to, as far as there is room; and whether that is all.
local function references(flow, name, room)
  if room.references == 0 or room.results == 0 then
    return {}, false
  end
  local text = command("HGET", flow.p, "f:" .. name) or ""
  local names, found, all = {}, {}, true
  for parent in gmatch(text, "[^,]+") do
    all = #names < room.references
    if not all then
      break
    end
    names[#names + 1] = parent
  end
  call.fetch(flow, names)
  for i = 1, #names do
    local kind, payload = M.result(flow, names[i])
    if not fits(room, "results", payload) then
      return found, false
    end
    room.references = room.references - 1
    found[#found + 1], found[#found + 2], found[#found + 3] = names[i], kind, payload
  end
  return found, all
end

-- A field of the payload hash, if there is room for it; and whether there is.
function M.payload(flow, field, room)
  local payload = room.others > 0 and command("HGET", flow.p, field)
  if room.others > 0 and fits(room, "others", payload) then
    return payload, true
  end
  return false, false
end

-- A step's input and context, if there is room for both; and whether there is.
function M.own_payloads(flow, name, room)
  local found = room.others > 0 and command("HMGET", flow.p, "i:" .. name, "c:" .. name)
  if found and fits(room, "others", found[1], found[2]) then
    return found[1], found[2], true
  end
  return false, false, false
end

-- Puts the step's own payloads, and the results that its input refers to, into a reply; returns what is left.
local function take_payloads(flow, name, payloads, reply, room)
  local whole
  reply[2], reply[3], whole = M.own_payloads(flow, name, room)
  local left = whole and "" or "p"
  if find(payloads, "r", 1, true) then
    local all
    reply[6], all = references(flow, name, room)
    left = all and left or left .. "r"
  end
  return left
end

-- An entry whose step was started, as its claimer is told.
local function answer(entry, room)
  local flow, name, payloads = entry.flow, entry.step, record.payloads(entry.static)
  local reply = { call.text(flow, name), false, false, false, false, {}, flow.h.inserted, false, "" }
  local left = payloads ~= "" and take_payloads(flow, name, payloads, reply, room) or ""
  if flow.h.context == "c" then
    local whole
    reply[8], whole = M.payload(flow, ":", room)
    left = whole and left or left .. "w"
  end
  local wait = flow.waited and waits.latest(flow, name)
  if wait and wait.status == "r" then
    local whole
    reply[4] = waits.write(wait)
    reply[5], whole = M.payload(flow, "s:" .. name, room)
    left = whole and left or left .. "s"
  end
  reply[9] = left
  return reply
end

-- The call's workflows of which steps may be started, by id.
local function open_flows(call_)
  local flows = {}
  for slot = 1, #call_.flows do
    local flow = call_.flows[slot]
    if flow.h and is_open(flow) then
      flows[flow.id] = flow
    end
  end
  return flows
end

-- How far back, and among how many leases, the claims of a call are looked for whose reply was lost.
local LOST_MS, LOST_AMONG = 60000, "1000"

-- The claims that a call has made in these workflows before its reply was lost, beside those that it has
-- started of reserved entries: entries without a place, and what start takes of each. They are found by when
-- their leases end, which is sooner than asked for where a step has a timeout.
local function claimed_before(call_, flows, claimer, started)
  local found, own, told, latest = {}, {}, {}, call_.ms + claimer.lease_ms
  for i = 1, #started do
    if started[i] then
      told["l|" .. started[i].flow.id .. "|" .. started[i].step] = true
    end
  end
  local timers = command(
    "ZREVRANGEBYSCORE", call_.keys[keyslots.TIMERS], call.number(latest),
    call.number(min(latest - LOST_MS, call_.ms)), "LIMIT", "0", LOST_AMONG
  )
  for i = 1, #timers do
    local id, name = match(timers[i], "^l|([^|]+)|(.+)$")
    local flow = not told[timers[i]] and flows[id]
    local step = flow and call.step(flow, name)
    if step and claims.is_held(flow, step, claimer.token) then
      found[#found + 1] = "|" .. id .. "|" .. name
      own[#found] = { flow = flow, step = name, place = "" }
    end
  end
  return found, own
end

-- The steps' names of entries, by flow.
local function by_flow(entries)
  local names = {}
  for i = 1, #entries do
    local entry = entries[i]
    if entry then
      local some = names[entry.flow] or {}
      some[#some + 1], names[entry.flow] = entry.step, some
    end
  end
  return names
end

-- Makes the records of these entries' steps present, with one read for each workflow.
local function fetch_records(entries)
  for flow, names in pairs(by_flow(entries)) do
    call.fetch(flow, names)
  end
end

-- Takes the next entries of the queues (separated by commas), and starts those whose workflows the call
-- has opened; the others stay reserved. Returns the entries, and what became of each: what answer takes,
-- or false. A call that was sent before tells once more what it had claimed, but for what is among started.
function M.next(call_, queues, limit, claimer, again, started)
  local names, flows, found, own = {}, open_flows(call_), {}, {}
  for name in gmatch(queues, "[^,]+") do
    names[#names + 1] = name
  end
  if again then
    found, own = claimed_before(call_, flows, claimer, started)
  end
  if #found < limit then
    local fresh, entries = queue.take(call_, names, limit - #found, flows)
    for i = 1, #fresh do
      found[#found + 1], own[#own + 1] = fresh[i], entries[i]
    end
  end
  fetch_records(own)
  for i = 1, #own do
    own[i] = own[i] and M.start(call_, own[i].flow, own[i], claimer, again) and own[i]
  end
  return found, own
end

-- Makes the waits of started steps present, with one read for each workflow.
local function load_waits(started)
  for flow, names in pairs(by_flow(started)) do
    if flow.waited then
      waits.load(flow, names)
    end
  end
end

-- The same for an entry of which something cannot be read.
local function untold(entry)
  local flow = entry.flow
  return { call.text(flow, entry.step), false, false, false, false, {}, flow.h.inserted, false, M.UNTOLD }
end

-- Tells what became of entries that were started, or not, as far as there is room; only after the call's writes.
-- One that cannot be told, as somebody has overwritten what it was given, takes no other with it.
function M.tell(started, room)
  pcall(load_waits, started)
  for i = 1, #started do
    if started[i] then
      local told, reply = pcall(answer, started[i], room)
      started[i] = told and reply or untold(started[i])
    end
  end
  return started
end

return M
