-- complete: records the outcomes of steps, releases or cancels their descendants, and claims the next steps whose
-- workflows' keys this call has.
--
-- Reply: {answers to the reports, workflows, started, found, claims, slots}. An answer is
--     {"accepted"|"duplicate", attempt, row} and, with views, record, input, context, wait, left
--   or {"rejected", reason, stamp, message}, or {"busy"|"changed", "0", ""} where a fragment cannot be brought in now, or
--   without views false, where a report was accepted and nothing is left to be walked; a workflow, by slot, is
--   {static, counts, context, left, flag} or false.
--   Parts for which the reply has no room are left for the caller to read (inputs.lua): "p" input and context, "w" the
--   workflow's context. started has an answer for each entry to start, as in start_steps; found has entries of the ready
--   queue, and claims the claim of each, or false where it is only reserved, to be started by a later call.
--   Without views, slots are those of child workflows that have ended, and whose parents are still to be notified.
-- Bound: 64 reports, 64 entries, 64 claims; the call's budget of edges.
-- Writes: records, counts, result rows, evidence, ready queue, timers, index, statistics. Sent again, it answers
--   from the records.
-- Publishes: step_available, workflow_terminal.

-- How many of the latest rows are searched for a call that is marked as sent again: it was sent moments ago, so its
-- row is among them. For any other call only the latest row is looked at: a user's own Redis client may have sent it
-- again without marking it.
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

-- The result row that this command is on record in: by its call id, its command id or its lease, in this order.
-- Returns the row and which of the three was found.
local function find_row(workflow, item, reported, again)
  local row = find_call(workflow, item, reported, again)
  if row then
    return row, "call"
  end
  row = item.command_id ~= "" and results.of_command(workflow, item.step, item.command_id)
  if row then
    return row, "command"
  end
  return item.lease ~= "" and results.of_lease(workflow, item.step, item.lease), "lease"
end

local function same_request(workflow, item, row)
  return row.asked == item.asked and (command("HGET", workflow.p, "o:" .. item.step .. ":" .. row.attempt) or nil) == item.payload
end

-- The recorded answer to this command when it was carried out before, or nil.
local function on_record(tx, workflow, item, reported, again)
  local row, identity = find_row(workflow, item, reported, again)
  if not row then
    return nil
  end
  if identity == "call" then
    return { "accepted", row.attempt, codec.write_row(row) }
  end
  if identity == "lease" and not same_request(workflow, item, row) then
    return evidence.reject(
      tx, workflow, item, "already_terminal", "the lease has reported another outcome"
    )
  end
  evidence.duplicate(tx, workflow, item)
  return { "duplicate", row.attempt, codec.write_row(row) }
end

-- The recorded answer to an uncounted retry, or nil. Only a step's latest one is kept.
local function put_off_before(tx, workflow, item)
  local row = results.put_off(workflow, item.step)
  if row and row.call == item.call then
    return { "accepted", row.attempt, row.text }
  end
  local known = row
    and (item.command_id ~= "" and row.command == item.command_id or item.lease ~= "" and row.lease == item.lease)
  if known then
    evidence.duplicate(tx, workflow, item)
    return { "duplicate", row.attempt, row.text }
  end
  return nil
end

-- The reason why a lease that is not the current one is refused.
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

-- For a command without any id, on a step that has ended: the same outcome again is a duplicate.
local function same_outcome(tx, workflow, item, step)
  if item.command_id ~= "" or item.lease ~= "" or step.reported == "0" then
    return nil
  end
  local row = results.of(workflow, item.step, step.reported)
  if not same_request(workflow, item, row) then
    return nil
  end
  evidence.duplicate(tx, workflow, item)
  return { "duplicate", row.attempt, codec.write_row(row) }
end

-- The attempt that a report is of.
local function attempt_of(step)
  if step.state ~= "e" or not claims.has_attempt(step) or step.attempt == step.reported then
    return integer.text(step.attempt + 1) -- else a claim has counted it already
  end
  return step.attempt
end

-- The reply to a report that appends steps which cannot be brought in now, or nil.
local function judge_fragment(workflow, item, step)
  if not item.fragment then
    return nil
  end
  item.growth = codec.read_growth(item.fragment)
  local obstacle = growth.obstacle(workflow, item.growth, tonumber(attempt_of(step)))
  return obstacle and { obstacle, "0", "" }
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
  if item.lease ~= "" and not claims.is_current(step, item.lease) then
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
  if step.state == "e" and item.lease == "" and not item.force then
    return evidence.reject(tx, workflow, item, "lease_required", "the step is executing")
  end
  return judge_fragment(workflow, item, step)
end

local function retry_later(tx, workflow, item, step)
  local delay = item.retry_ms
    or backoff.delay_ms(codec.step_options(step.static), max(tonumber(step.attempt), 1), tonumber(item.jitter))
  step.due = integer.text(workflow.since + delay)
  transaction.set_timer(tx, workflow, "r", item.step, workflow.h.inserted + step.due)
end

-- Outcome of a report under an open cancel request; statuses that are not listed have their usual outcome.
local REQUESTED = { c = states.COMPLETED_LATE, r = states.CANCELLED_BY_REQUEST }

-- Gives the step its outcome.
local function conclude(tx, workflow, item, step)
  local asked_to_end = workflow.h.cancel ~= "" and not branching.outlasts(workflow, step)
  local outcome = asked_to_end and REQUESTED[item.asked] or states.COMPLETION[item.asked]
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

-- Schedules the step to run again later under its present attempt: its next claim counts no attempt, unless none has
-- been counted yet. However often that happens, one row is kept, which the next overwrites.
local function put_off(tx, workflow, item, step)
  local has_one = claims.has_attempt(step)
  local note = claims.signed(workflow, step, item.note)
  transitions.withdraw(tx, workflow, item.step, step)
  attempts.note_start(workflow, step)
  transitions.become(tx, workflow, item.step, step, states.COMPLETION.r)
  retry_later(tx, workflow, item, step)
  step.claim = has_one and claims.UNCOUNTED or ""
  local text = codec.write_row(attempts.row(tx, item, step.state, note))
  results.keep_put_off(workflow, item.step, step.attempt, text)
  return { "accepted", step.attempt, text }
end

-- Carries an item out. Without views an answer is needed only where edges remain to be walked.
local function accept(tx, workflow, item, with_views)
  local step = transaction.step(workflow, item.step)
  if item.lease == "" and workflow.h.review ~= "" then
    workflow.h.review = "" -- an operator's command, or a service's that could be one
  end
  if item.uncounted and (workflow.h.cancel == "" or branching.outlasts(workflow, step)) then
    return put_off(tx, workflow, item, step)
  end
  step.attempt = attempt_of(step)
  if states.COMPLETION[item.asked].seen then
    versions.need_branching(tx, workflow, item)
  end
  local note = claims.signed(workflow, step, item.note)
  transitions.withdraw(tx, workflow, item.step, step)
  step.reported = step.attempt
  attempts.note_start(workflow, step)
  conclude(tx, workflow, item, step)
  local row = attempts.row(tx, item, step.state, note)
  if item.growth then
    row.appended, step.walked = item.growth.count, "0"
    growth.begin(tx, workflow, item, item.growth)
  end
  if states.TERMINAL[step.state] and (item.growth or record.children(step) ~= "") then
    attempts.descend(tx, workflow, item.step, step, row)
  end
  local text = codec.write_row(row)
  results.put(workflow, item.step .. ":" .. step.attempt, text, item.payload, item.traceback)
  if item.command_id ~= "" then
    results.put_command(workflow, item.step, item.command_id, "r:" .. step.attempt)
  end
  return (with_views or row.open ~= "0") and { "accepted", step.attempt, text }
end

-- Appends the step's present state to an answered item, as far as there is room.
local function add_view(tx, item, reply, room)
  if reply[1] ~= "accepted" and reply[1] ~= "duplicate" then
    return
  end
  local workflow = tx.workflows[item.slot]
  local text = transaction.text(workflow, item.step)
  reply[4] = text
  reply[5], reply[6], reply[8] = false, false, ""
  if codec.step_payloads(text) ~= "" then
    local input, context, whole = dispatch.own_payloads(workflow, item.step, room)
    reply[5], reply[6], reply[8] = input, context, whole and "" or "p"
  end
  reply[7] = waits.shown(workflow, item.step, text)
end

-- A workflow's header with its context, as far as there is room.
local function header_of(workflow, room)
  local context, whole = false, true
  if not workflow.h then
    return false
  end
  if workflow.h.context == "c" then
    context, whole = dispatch.payload(workflow, ":", room)
  end
  return { workflow.static, flush.counts(workflow), context, whole and "" or "w", waits.flag(workflow) }
end

return function(tx, with_views, limit, token, worker, lease_ms, queues, entries, reports)
  local claimer = { token = token, worker = worker, lease_ms = lease_ms }
  local names = transaction.steps_by_slot(transaction.steps_by_slot({}, entries), reports)
  for slot = 1, #names do
    expiry.expire(tx, transaction.workflow(tx, slot, names[slot]), names[slot])
  end
  local answers, headers = {}, {}
  for i = 1, #reports do
    local item = reports[i]
    local workflow = tx.workflows[item.slot]
    item.action, item.scope = "complete_step", "step"
    answers[i] = judge(tx, workflow, item, tx.again) or accept(tx, workflow, item, with_views)
  end
  local started, found, claimed = dispatch.start_all(tx, entries, claimer), {}, {}
  if limit > 0 then
    found, claimed = dispatch.next(tx, queues, limit, claimer, started)
  end
  flush.commit(tx)
  local room, ended = dispatch.room(), {}
  for slot = 1, with_views and 0 or #names do
    if links.has_news(tx.workflows[slot]) then
      ended[#ended + 1] = slot
    end
  end
  if with_views then
    for slot = 1, #names do
      headers[slot] = header_of(tx.workflows[slot], room)
    end
    for i = 1, #reports do
      add_view(tx, reports[i], answers[i], room)
    end
  end
  return {
    answers, #headers > 0 and headers, #started > 0 and dispatch.reply(started, room),
    #found > 0 and found, #claimed > 0 and dispatch.reply(claimed, room), #ended > 0 and ended,
  }
end
