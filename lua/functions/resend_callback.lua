-- resend_callback: schedules a dead or delivered callback to be sent once more.
--
-- Bound: one callback.
-- Writes: the callback's record, the outbox, statistics, the header, evidence. Publishes nothing.

-- Why a callback cannot be sent again: a reason and a message; nil when it can.
local function refusal(workflow, c)
  if not workflow.h then
    return "workflow_not_found", "there is no workflow " .. workflow.id
  end
  if not states.IMPLEMENTED[workflow.h.semantics] then
    return "unsupported_semantics", "the workflow follows semantics version " .. workflow.h.semantics
  end
  if not c then
    return "invalid_argument", "the workflow has no such callback"
  end
  if c.status == "l" or (c.status == "p" and c.attempts ~= "0") then
    return "illegal_transition", "the callback is neither dead nor delivered, and comes again by itself"
  end
  return nil
end

local function review(workflow, text)
  if workflow.h.review ~= text then
    workflow.h.review = text
    workflow.marked = true
  end
end

local function resend(tx, workflow, item)
  local c = workflow.h and outbox.read(workflow, item.number)
  if tx.again then
    local before = evidence.refused_before(tx, workflow, item)
    if before then
      return before
    end
    if c and evidence.accepted_before(workflow, item) then
      return { "resent", codec.write_callback(c), workflow.static }
    end
  end
  local reason, message = refusal(workflow, c)
  if reason then
    if workflow.h and states.IMPLEMENTED[workflow.h.semantics] then
      review(workflow, "1")
    end
    return evidence.reject(tx, workflow, item, reason, message)
  end
  if c.status == "p" then
    evidence.duplicate(tx, workflow, item, "duplicate_resend")
  else
    evidence.accept(tx, workflow, item, "accepted", "", "callback " .. c.number .. " is sent again")
    c.attempts, c.token = "0", ""
    outbox.move(tx, workflow, c, "p", workflow.since)
    review(workflow, "")
  end
  return { "resent", codec.write_callback(c), workflow.static }
end

return function(tx, number, call_id, note)
  local workflow = transaction.workflow(tx, 1, {})
  local item = {
    action = "resend_callback", scope = "callback", step = "", number = number, call = call_id, note = note,
  }
  local reply = resend(tx, workflow, item)
  flush.commit(tx)
  return reply
end
