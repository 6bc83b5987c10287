-- complete: records what steps' work came to, and releases or cancels their descendants; and claims the
-- next steps, as far as this call has their workflows' keys.
--
-- Keys: the partition's, then each workflow's (keyslots).
-- Arguments: the publishing verb, "1" when this very call was sent before, "1" to have views in the
--   reply; how many steps to claim, or "", of which queues (separated by commas), and the claim's token,
--   worker (quoted) and lease in milliseconds; how many reserved entries to start, and these:
--   "slot,step,class|order"; then three for each item: "slot,step,status asked for (state code),call id,
--   command id,lease,milliseconds to the retry or nothing,a random number in [0,1) for the jitter,1 when
--   a payload follows,1 to do without the lease of an executing step,1 for a retry that counts no attempt",
--   the payload, the client's note.
-- Reply: {items, workflows, started, found, claims}. An item is
--     {"accepted"|"duplicate", attempt, row} and, with views, record, input, context, wait, left
--   or {"rejected", reason, stamp, message}; a workflow, by slot, is {static, counts, context, left, flag}. What the
--   reply has no room for is left for the caller to read (inputs.lua): "p" input and context, "w" the workflow's
--   context. Of the entries to start each is answered as in start; found are entries of the ready queue, and claims what
--   became of each: false for one that is reserved only, to be started with a later call.
-- Writes: records, counts, result rows, evidence, ready queue, timers, index, statistics.
-- Publishes: step_available, workflow_terminal.
local FIRST_ENTRY, WIDTH = 10, 3

local function name_step(names, slot, step)
  local wanted = names[slot]
  if wanted then
    wanted[#wanted + 1] = step
  else
    names[slot] = { step }
  end
end

-- The reserved entries and the items, and the steps that they name, by slot.
local function read_items(args)
  local entries, items, names = {}, {}, {}
  local first_item = FIRST_ENTRY + args[9]
  for at = FIRST_ENTRY, first_item - 1 do
    local slot, step, place = match(args[at], "^(%d+),([^,]+),(.*)$")
    slot = tonumber(slot)
    entries[#entries + 1] = { slot = slot, step = step, place = place }
    name_step(names, slot, step)
  end
  for at = first_item, #args, WIDTH do
    local slot, step, asked, id, command_, lease, retry_ms, jitter, has_payload, force, uncounted =
      match(args[at], "^(%d+),([^,]*),(%a),([^,]*),([^,]*),([^,]*),(%d*),([%d.]+),(1?),(1?),(1?)$")
    slot = tonumber(slot)
    items[#items + 1] = {
      action = "complete_step", scope = "step", slot = slot, step = step, asked = asked, call = id,
      command = command_, lease = lease, retry_ms = retry_ms, jitter = jitter,
      payload = has_payload == "1" and args[at + 1] or nil, force = force,
      uncounted = uncounted == "1", note = args[at + 2],
    }
    name_step(names, slot, step)
  end
  return entries, items, names
end

-- How many of the latest rows are searched for a call that was sent before. It was sent moments ago,
-- so its row is among them. Any other call is looked for in the latest one: a client of the user's
-- own may have sent it again without a word.
local RECENT = 8

local function find_call(workflow, item, reported, again)
  for attempt = reported, max(again and reported - RECENT + 1 or reported, 1), -1 do
    local row = results.of(workflow, item.step, integer.text(attempt))
    if row and row.call == item.call then
      return row
    end
  end
  return nil
end

-- The result row that an identity of this command is on record for: the call's own, its command id,
-- its lease, in this order. Returns the row and which identity.
local function find_row(workflow, item, reported, again)
  local row = find_call(workflow, item, reported, again)
  if row then
    return row, "call"
  end
  row = item.command ~= "" and results.of_command(workflow, item.step, item.command)
  if row then
    return row, "command"
  end
  return item.lease ~= "" and results.of_lease(workflow, item.step, item.lease), "lease"
end

local function same_request(workflow, item, row)
  return row.asked == item.asked and (command("HGET", workflow.p, "o:" .. item.step .. ":" .. row.attempt) or nil) == item.payload
end

-- The answer that is already on record for this command, or nil.
local function on_record(tx, workflow, item, reported, again)
  local row, identity = find_row(workflow, item, reported, again)
  if not row then
    return nil
  end
  if identity == "call" then
    return { "accepted", row.attempt, results.write(row) }
  end
  if identity == "lease" and not same_request(workflow, item, row) then
    return evidence.reject(
      tx, workflow, item, "already_terminal", "the lease has reported another outcome"
    )
  end
  evidence.duplicate(tx, workflow, item)
  return { "duplicate", row.attempt, results.write(row) }
end

-- The answer that an uncounted retry is on record for already, or nil. Only the latest of a step is.
local function put_off_before(tx, workflow, item)
  local row = results.put_off(workflow, item.step)
  if row and row.call == item.call then
    return { "accepted", row.attempt, row.text }
  end
  local known = row
    and (item.command ~= "" and row.command == item.command or item.lease ~= "" and row.lease == item.lease)
  if known then
    evidence.duplicate(tx, workflow, item)
    return { "duplicate", row.attempt, row.text }
  end
  return nil
end

-- Why a lease that is not the current one is refused.
local function stale(workflow, item)
  if waits.has_lease(workflow, item.step, item.lease) then
    return "already_terminal", "the lease has ended in a wait"
  end
  local row = results.put_off(workflow, item.step)
  if row and row.lease == item.lease then
    return "already_terminal", "the lease has reported another outcome"
  end
  return "stale_lease", "the lease is not the step's current one"
end

-- A command without any identity, on a step that has ended: the same outcome again is a duplicate.
local function same_outcome(tx, workflow, item, step)
  if item.command ~= "" or item.lease ~= "" or step.reported == "0" then
    return nil
  end
  local row = results.of(workflow, item.step, step.reported)
  if not same_request(workflow, item, row) then
    return nil
  end
  evidence.duplicate(tx, workflow, item)
  return { "duplicate", row.attempt, results.write(row) }
end

-- The reply to an item that changes nothing, or nil when it is to be carried out.
local function judge(tx, workflow, item, again)
  local refused = evidence.refuse_workflow(tx, workflow, item, again)
  if refused then
    return refused
  end
  local step = transaction.step(workflow, item.step)
  if not step then
    return evidence.reject(tx, workflow, item, "step_not_found", "the workflow has no such step")
  end
  if step.reported ~= "0" then
    local known = on_record(tx, workflow, item, tonumber(step.reported), again)
    if known then
      return known
    end
  end
  local before = item.uncounted and put_off_before(tx, workflow, item)
  if before then
    return before
  end
  if item.lease ~= "" and item.lease ~= claims.lease(step) then
    return evidence.reject(tx, workflow, item, stale(workflow, item))
  end
  if states.TERMINAL[step.state] then
    return same_outcome(tx, workflow, item, step)
      or evidence.reject(tx, workflow, item, "already_terminal", "the step is " .. states.NAME[step.state])
  end
  if step.state == "p" then
    return evidence.reject(
      tx, workflow, item, "dependencies_unresolved",
      "the step waits for " .. step.remaining .. " of its dependencies"
    )
  end
  if step.state == "e" and item.lease == "" and item.force == "" then
    return evidence.reject(tx, workflow, item, "lease_required", "the step is executing")
  end
  return nil
end

local function retry_later(tx, workflow, item, step)
  local delay = tonumber(item.retry_ms)
    or backoff.delay_ms(record.options(step.static), max(tonumber(step.attempt), 1), tonumber(item.jitter))
  step.due = integer.text(workflow.since + delay)
  transaction.set_timer(tx, workflow, "r", item.step, workflow.h.inserted + step.due)
end

-- What a report comes to while a cancel request stands; all others come to the usual.
local REQUESTED = { c = states.COMPLETED_LATE, r = states.CANCELLED_BY_REQUEST }

-- Gives the step its outcome.
local function conclude(tx, workflow, item, step)
  local outcome = workflow.h.cancel ~= "" and REQUESTED[item.asked] or states.COMPLETION[item.asked]
  if item.asked == "r" and tonumber(step.attempt) >= record.last_attempt(step) then
    outcome = states.ATTEMPTS_EXHAUSTED
    evidence.accept(
      tx, workflow, item, "accepted", "attempts_exhausted", "attempt " .. step.attempt .. " was the last"
    )
  end
  transitions.become(tx, workflow, item.step, step, outcome)
  if not states.TERMINAL[outcome.state] then
    retry_later(tx, workflow, item, step)
  end
end

-- Walks the ended step's edges within the call's budget. What is left becomes an entry that is walked
-- later.
local function descend(tx, workflow, item, step, row)
  step.walked = "0"
  local done = propagate.descend(tx, workflow, { item.step })
  results.tally(row, done.released, done.cancelled)
  row.open = propagate.append(workflow, item.step .. ":" .. step.attempt, done, done.at)
end

-- The row of an accepted report, as it is before anything is walked.
local function row_of(tx, item, status, note)
  return {
    asked = item.asked, status = status, stamp = transaction.stamp(tx), call = item.call,
    command = item.command, lease = item.lease, open = "0", released = "0", cancelled = "0",
    released_names = "", cancelled_names = "", note = note,
  }
end

-- A step that was not started has been with its first report.
local function note_start(workflow, step)
  if step.started == "" then
    step.started = workflow.since
  end
  if workflow.h.started == "" then
    workflow.h.started = workflow.since
  end
end

-- Has a step run again later, and go on with the attempt that it has: its next claim counts none, unless no claim
-- has counted one yet. However often that happens, it leaves one row, which the next one overwrites.
local function put_off(tx, workflow, item, step)
  local has_one = step.state == "e" or step.state == "w" or step.claim == claims.UNCOUNTED
  local note = claims.signed(workflow, step, item.note)
  transitions.withdraw(tx, workflow, item.step, step)
  note_start(workflow, step)
  transitions.become(tx, workflow, item.step, step, states.COMPLETION.r)
  retry_later(tx, workflow, item, step)
  step.claim = has_one and claims.UNCOUNTED or ""
  local text = results.write(row_of(tx, item, step.state, note))
  results.keep_put_off(workflow, item.step, step.attempt, text)
  return { "accepted", step.attempt, text }
end

local function accept(tx, workflow, item)
  local step = transaction.step(workflow, item.step)
  if item.lease == "" then
    workflow.h.review = "" -- an operator's command, or a service's that could be one
  end
  if item.uncounted and workflow.h.cancel == "" then
    return put_off(tx, workflow, item, step)
  end
  if step.state ~= "e" or step.attempt == step.reported then
    step.attempt = integer.text(step.attempt + 1) -- else a claim has counted it already
  end
  local note = claims.signed(workflow, step, item.note)
  transitions.withdraw(tx, workflow, item.step, step)
  step.reported = step.attempt
  note_start(workflow, step)
  conclude(tx, workflow, item, step)
  local row = row_of(tx, item, step.state, note)
  if states.TERMINAL[step.state] and record.children(step) ~= "" then
    descend(tx, workflow, item, step, row)
  end
  local text = results.write(row)
  results.put(workflow, item.step .. ":" .. step.attempt, text, item.payload)
  if item.command ~= "" then
    results.put_command(workflow, item.step, item.command, "r:" .. step.attempt)
  end
  return { "accepted", step.attempt, text }
end

-- Appends to an answered item what its step looks like now, as far as there is room.
local function add_view(tx, item, reply, room)
  if reply[1] == "rejected" then
    return
  end
  local workflow = tx.workflows[item.slot]
  local text = transaction.text(workflow, item.step)
  reply[4] = text
  reply[5], reply[6], reply[8] = false, false, ""
  if record.payloads(text) ~= "" then
    local input, context, whole = dispatch.own_payloads(workflow, item.step, room)
    reply[5], reply[6], reply[8] = input, context, whole and "" or "p"
  end
  reply[7] = waits.shown(workflow, item.step, text)
end

-- A workflow's header with its context, as far as there is room.
local function header_of(workflow, room)
  local context, whole = false, true
  if not workflow.h then
    return {}
  end
  if workflow.h.context == "c" then
    context, whole = dispatch.payload(workflow, ":", room)
  end
  return { workflow.static, flush.counts(workflow), context, whole and "" or "w", waits.flag(workflow) }
end

-- Starts reserved entries; what became of each: what is told of it, or false.
local function start_reserved(tx, entries, claimer, again)
  local started = {}
  for i = 1, #entries do
    local entry = entries[i]
    entry.workflow = tx.workflows[entry.slot]
    started[i] = dispatch.start(tx, entry.workflow, entry, claimer, again) and entry
  end
  return started
end

return function(keys, args)
  local entries, items, names = read_items(args)
  local tx, claimer, again = transaction.open(keys), dispatch.claimer(args, 6), args[2] == "1"
  for slot = 1, #names do
    expiry.expire(tx, transaction.workflow(tx, slot, names[slot]), names[slot])
  end
  local replies, headers = {}, {}
  for i = 1, #items do
    local item = items[i]
    local workflow = tx.workflows[item.slot]
    replies[i] = judge(tx, workflow, item, again) or accept(tx, workflow, item)
  end
  local started, found, claimed = start_reserved(tx, entries, claimer, again), {}, {}
  if args[4] ~= "" then
    found, claimed = dispatch.next(tx, args[5], tonumber(args[4]), claimer, again, started)
  end
  flush.commit(tx, args[1])
  local room = dispatch.room()
  if args[3] == "1" then
    for slot = 1, #names do
      headers[slot] = header_of(tx.workflows[slot], room)
    end
    for i = 1, #items do
      add_view(tx, items[i], replies[i], room)
    end
  end
  return { replies, headers, dispatch.tell(started, room), found, dispatch.tell(claimed, room) }
end
