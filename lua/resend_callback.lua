-- resend_callback: has a callback that is dead or delivered sent once more.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, the callback's number, this call's id, the client's
--   note.
-- Reply: {"resent", record, static}, or {"rejected", reason, stamp, message}.
-- Bound: one callback.
-- Writes: the callback's record, the outbox, statistics, the header, evidence. Publishes nothing.

-- Why a callback cannot be sent again: a reason and a message; nil when it can.
local function refusal(flow, c)
  if not flow.h then
    return "workflow_not_found", "there is no workflow " .. flow.id
  end
  if flow.h.semantics ~= states.VERSION then
    return "unsupported_semantics", "the workflow follows semantics version " .. flow.h.semantics
  end
  if not c then
    return "invalid_argument", "the workflow has no such callback"
  end
  if c.status == "l" or (c.status == "p" and c.attempts ~= "0") then
    return "illegal_transition", "the callback is neither dead nor delivered, and comes again by itself"
  end
  return nil
end

local function review(flow, text)
  if flow.h.review ~= text then
    flow.h.review = text
    flow.marked = true
  end
end

local function resend(call_, flow, item, again)
  local c = flow.h and outbox.read(flow, item.number)
  if again then
    local before = evidence.refused_before(call_, flow, item)
    if before then
      return before
    end
    if c and evidence.accepted_before(flow, item) then
      return { "resent", outbox.text(c), flow.static }
    end
  end
  local reason, message = refusal(flow, c)
  if reason then
    if flow.h and flow.h.semantics == states.VERSION then
      review(flow, "1")
    end
    return evidence.reject(call_, flow, item, reason, message)
  end
  if c.status == "p" then
    evidence.duplicate(call_, flow, item, "duplicate_resend")
  else
    evidence.accept(call_, flow, item, "accepted", "", "callback " .. c.number .. " is sent again")
    c.attempts, c.token = "0", ""
    outbox.move(call_, flow, c, "p", flow.since)
    review(flow, "")
  end
  return { "resent", outbox.text(c), flow.static }
end

return function(keys, args)
  local call_ = call.open(keys)
  local flow = call.flow(call_, 1, {})
  local item = {
    action = "resend_callback", scope = "callback", step = "", number = args[3], call = args[4], note = args[5],
  }
  local reply = resend(call_, flow, item, args[2] == "1")
  flush.commit(call_, args[1])
  return reply
end
