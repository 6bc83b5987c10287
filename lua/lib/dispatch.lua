-- Handing steps out: an entry of the ready queue, taken out before, becomes a claim.
-- A claimer is {token, worker (quoted), lease_ms}.
-- A claim in a reply is {record, when the workflow was inserted, parts left out} and, where the step has any input,
-- {..., input, context, workflow's context, wait, signal's payload, references}, then a condition, outcomes and the trace
-- context of the insert, where there are any. A reference is {step, kind, payload}: "n" null, "v" a value, "m" missing;
-- an outcome is {step, "state,cause,mark|note", payload}, from the step's latest result. All claims of a call share the
-- room in its reply. Parts left for the claimer to read by itself (inputs.lua) are named by letters: "p" input and
-- context, "w" the workflow's context, "s" the signal's payload, "c" the condition, "r" and "o" further references and
-- outcomes, "l" the results of appended steps; "!" means that the input was overwritten and cannot be read.
local M = {}

M.UNTOLD = "!"

-- Whether a step of a workflow may be started; without a step, whether any may.
local function is_open(workflow, step)
  if workflow.h.cancel ~= "" then
    return workflow.b and (not step or branching.is_always(step))
  end
  return states.IMPLEMENTED[workflow.h.semantics]
end

-- Starts an entry's step. Returns false when it is not available. An entry whose step has moved is dropped; one whose
-- workflow may not be touched goes back when its reservation runs out. A claim that this very call made when it was
-- first sent is returned once more.
function M.start(tx, workflow, entry, claimer)
  local step = workflow.h and transaction.step(workflow, entry.step)
  if step and tx.again and claims.is_held(workflow, step, claimer.token) then
    return true
  end
  if not step or step.state ~= "a" or step.class .. "|" .. step.order ~= entry.place then
    tx.queued[entry.place .. "|" .. workflow.id .. "|" .. entry.step] = false
    return false
  end
  if not is_open(workflow, step) then
    return false
  end
  claims.start(tx, workflow, entry.step, step, claimer.token, claimer.worker, claimer.lease_ms)
  return true
end

-- Starts entries, each in its slot. Returns for each the argument that reply takes, or false.
function M.start_all(tx, entries, claimer)
  local started = {}
  for i = 1, #entries do
    local entry = entries[i]
    entry.workflow = tx.workflows[entry.slot]
    started[i] = M.start(tx, entry.workflow, entry, claimer) and entry
  end
  return started
end

-- The latest result of a completed step: its kind, and its payload. A null has no payload.
local function result_of(workflow, name, step)
  local attempt = name .. ":" .. step.reported
  local payload = command("HGET", workflow.p, "o:" .. attempt)
  if payload then
    return "v", payload
  end
  if command("HEXISTS", workflow.p, "r:" .. attempt) == 1 then
    return "v", "null"
  end
  return "m", false
end

-- The result that a reference to a step stands for: its kind, and its payload.
function M.result(workflow, name)
  local step = transaction.step(workflow, name)
  if step.state == "c" and step.cause ~= states.SKIPPED_BY_OPERATOR.cause and branching.has_result(step) then
    return result_of(workflow, name, step)
  end
  return "n", false
end

-- How a step has ended: the text of an outcome, and the payload of its latest result.
function M.outcome(workflow, name)
  local step = transaction.step(workflow, name)
  local note, payload = "", false
  if step.reported ~= "0" then
    local text
    text, payload = unpack(
      command("HMGET", workflow.p, "r:" .. name .. ":" .. step.reported, "o:" .. name .. ":" .. step.reported)
    )
    note = text and codec.read_row(text).note or ""
  end
  return step.state .. "," .. step.cause .. "," .. step.seen .. "|" .. note, payload
end

-- How much more the reply may hold: references, bytes of results, and bytes of all other parts.
function M.room()
  return { references = states.REFERENCES_TOLD, results = states.RESULTS_TOLD, others = states.OTHERS_TOLD }
end

-- Whether these payloads fit in as well. After the first that does not, nothing is taken: each was read to be
-- measured, and reading more in vain would cost too much.
local function fits(room, of, one, other)
  local left = room[of] - #(one or "") - #(other or "")
  room[of] = max(left, 0)
  return left >= 0
end

-- The results or outcomes of the steps that a step refers to, as far as there is room; and whether these are all. The
-- steps are listed in a field of the payload hash; describe(workflow, name) makes one item of the reply.
local function references(workflow, field, room, describe)
  if room.references == 0 or room.results == 0 then
    return {}, false
  end
  local text = command("HGET", workflow.p, field) or ""
  local names, found, all = {}, {}, true
  for parent in gmatch(text, "[^,]+") do
    all = #names < room.references
    if not all then
      break
    end
    names[#names + 1] = parent
  end
  transaction.fetch(workflow, names)
  for i = 1, #names do
    local kind, payload = describe(workflow, names[i])
    if not fits(room, "results", payload) then
      return found, false
    end
    room.references = room.references - 1
    found[i] = { names[i], kind, payload }
  end
  return found, all
end

-- A field of the payload hash, if there is room for it; and whether there is.
function M.payload(workflow, field, room)
  local payload = room.others > 0 and command("HGET", workflow.p, field)
  if room.others > 0 and fits(room, "others", payload) then
    return payload, true
  end
  return false, false
end

-- A step's input and context, if there is room for both; and whether there is.
function M.own_payloads(workflow, name, room)
  local found = room.others > 0 and command("HMGET", workflow.p, "i:" .. name, "c:" .. name)
  if found and fits(room, "others", found[1], found[2]) then
    return found[1], found[2], true
  end
  return false, false, false
end

-- Puts the step's own payloads, and the results that its input refers to, into a reply. Returns the letters of the
-- parts left out.
local function take_payloads(workflow, name, payloads, reply, room)
  local whole
  reply[4], reply[5], whole = M.own_payloads(workflow, name, room)
  local left = whole and "" or "p"
  if find(payloads, "w", 1, true) then
    reply[10], whole = M.payload(workflow, "w:" .. name, room)
    left = whole and left or left .. "c"
  end
  if find(payloads, "r", 1, true) then
    local all
    reply[9], all = references(workflow, "f:" .. name, room, M.result)
    left = all and left or left .. "r"
  end
  if find(payloads, "o", 1, true) then
    local all
    reply[10] = reply[10] or false
    reply[11], all = references(workflow, "g:" .. name, room, M.outcome)
    left = all and left or left .. "o"
  end
  return find(payloads, "l", 1, true) and left .. "l" or left
end

-- Adds the trace context of the workflow's insert, if it was traced.
local function take_trace(workflow, reply)
  local trace = header.trace(workflow.static)
  if trace then
    for place = #reply + 1, 11 do
      reply[place] = false
    end
    reply[12] = trace
  end
end

-- The claim of an entry whose step was started.
local function claim_reply(entry, room)
  local workflow, name = entry.workflow, entry.step
  local text, inserted = transaction.text(workflow, name), workflow.h.inserted
  local payloads, wait = codec.step_payloads(text), workflow.waited and waits.latest(workflow, name)
  if payloads == "" and workflow.h.context ~= "c" and not wait and not header.trace(workflow.static) then
    return { text, inserted, "" }
  end
  local reply = { text, inserted, "", false, false, false, false, false, false }
  local left = payloads ~= "" and take_payloads(workflow, name, payloads, reply, room) or ""
  if workflow.h.context == "c" then
    local whole
    reply[6], whole = M.payload(workflow, ":", room)
    left = whole and left or left .. "w"
  end
  if wait and wait.status == "r" and not links.child(wait) then
    local whole
    reply[7] = codec.write_wait(wait)
    reply[8], whole = M.payload(workflow, "s:" .. name, room)
    left = whole and left or left .. "s"
  elseif wait and waits.has_timed_out(wait) then
    reply[7] = codec.write_wait(wait)
  end
  reply[3] = left
  take_trace(workflow, reply)
  return reply
end

-- The call's workflows of which steps may be started, by id.
local function open_workflows(tx)
  local workflows = {}
  for slot = 1, #tx.workflows do
    local workflow = tx.workflows[slot]
    if workflow.h and is_open(workflow) then
      workflows[workflow.id] = workflow
    end
  end
  return workflows
end

-- How far back, and among how many leases, a call that was sent again looks for claims that it made the first time.
local LOST_MS, LOST_AMONG = 60000, "1000"

-- The claims that this call made in these workflows when it was first sent, beside those of reserved entries: entries
-- without a place, and for each the argument that reply takes. They are found by when their leases end, which is
-- earlier than asked for where a step has a timeout.
local function claimed_before(tx, workflows, claimer, started)
  local found, own, seen, latest = {}, {}, {}, tx.ms + claimer.lease_ms
  for i = 1, #started do
    if started[i] then
      seen["l|" .. started[i].workflow.id .. "|" .. started[i].step] = true
    end
  end
  local timers = command(
    "ZREVRANGEBYSCORE", tx.keys[keyslots.TIMERS], integer.text(latest),
    integer.text(min(latest - LOST_MS, tx.ms)), "LIMIT", "0", LOST_AMONG
  )
  for i = 1, #timers do
    local id, name = match(timers[i], "^l|([^|]+)|(.+)$")
    local workflow = not seen[timers[i]] and workflows[id]
    local step = workflow and transaction.step(workflow, name)
    if step and claims.is_held(workflow, step, claimer.token) then
      found[#found + 1] = "|" .. id .. "|" .. name
      own[#found] = { workflow = workflow, step = name, place = "" }
    end
  end
  return found, own
end

-- The entries' names of steps, by workflow.
local function by_workflow(entries)
  local names = {}
  for i = 1, #entries do
    local entry = entries[i]
    local some = names[entry.workflow] or {}
    some[#some + 1], names[entry.workflow] = entry.step, some
  end
  return names
end

-- Loads the records of these entries' steps, with one read for each workflow. Steps that this call has released are
-- loaded already.
local function fetch_records(entries)
  local missing, count = {}, 0
  for i = 1, #entries do
    local entry = entries[i]
    if entry and entry.workflow.raw[entry.step] == nil then
      count = count + 1
      missing[count] = entry
    end
  end
  if count > 0 then
    for workflow, names in pairs(by_workflow(missing)) do
      transaction.fetch(workflow, names)
    end
  end
end

-- Takes the next entries of the queues, and starts those whose workflows the call has opened; the others stay
-- reserved. Returns the entries, and for each the argument that reply takes, or false. A call that was sent before
-- returns its earlier claims once more, except those in started.
function M.next(tx, queues, limit, claimer, started)
  local workflows, found, own = open_workflows(tx), {}, {}
  if tx.again then
    found, own = claimed_before(tx, workflows, claimer, started)
  end
  if #found < limit then
    local before = #found
    local fresh, entries = queue.take(tx, queues, limit - before, workflows)
    for i = 1, #fresh do
      found[before + i], own[before + i] = fresh[i], entries[i]
    end
  end
  fetch_records(own)
  for i = 1, #own do
    own[i] = own[i] and M.start(tx, own[i].workflow, own[i], claimer) and own[i]
  end
  return found, own
end

-- Loads the waits of started steps, with one read for each workflow.
local function load_waits(started)
  local waited, count = {}, 0
  for i = 1, #started do
    local entry = started[i]
    if entry and entry.workflow.waited then
      count = count + 1
      waited[count] = entry
    end
  end
  if count > 0 then
    for workflow, names in pairs(by_workflow(waited)) do
      waits.load(workflow, names)
    end
  end
end

-- The claim of an entry of which something cannot be read.
local function unreadable(entry)
  local workflow = entry.workflow
  return { transaction.text(workflow, entry.step), workflow.h.inserted, M.UNTOLD }
end

-- The ticket of an entry whose step is to be started later, with everything that may keep it from running.
local function ticket_reply(entry, room)
  local text = transaction.text(entry.workflow, entry.step)
  if find(codec.step_payloads(text), "[rwo]") then
    return claim_reply(entry, room)
  end
  return { text, entry.workflow.h.inserted, "" }
end

-- The claims of entries, or false where they were not started, as far as there is room; called only after the writes.
-- One whose input was overwritten does not affect the others.
function M.reply(started, room, as_tickets)
  pcall(load_waits, started)
  for i = 1, #started do
    if started[i] then
      local ok, reply = pcall(as_tickets and ticket_reply or claim_reply, started[i], room)
      started[i] = ok and reply or unreadable(started[i])
    end
  end
  return started
end

return M
