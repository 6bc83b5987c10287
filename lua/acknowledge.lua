-- acknowledge: an operator has seen that a workflow ended badly, and leaves it at that.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, the call id, who (quoted), why (quoted), the client's
--   note.
-- Reply: {"accepted"|"duplicate", static, counts, context, flag}, or {"rejected", reason, stamp, message, next
--   step where the reason does not tell it}.
-- Writes: the acknowledgement (header.lua), the header when a refusal was to be reviewed, evidence, statistics.
local function reject(kind, call_, flow, item, message, next_step)
  local reply = evidence[kind](call_, flow, item, "illegal_transition", message)
  reply[5] = next_step
  return reply
end

local function judge(call_, flow, item, again)
  local refused = evidence.refuse_workflow(call_, flow, item, again)
  if refused then
    return refused
  end
  if again and evidence.accepted_before(flow, item) then
    return { "accepted" }
  end
  local h, state = flow.h, states.workflow_state(flow.h)
  if not states.WORKFLOW_CODE[state] then
    return reject("reject_operator", call_, flow, item, "the workflow is " .. state, "explain_workflow")
  end
  if header.is_acknowledged(h, command("HGET", flow.w, header.ACKNOWLEDGED)) then
    evidence.duplicate(call_, flow, item)
    return { "duplicate" }
  end
  if h.f + h.d + h.t + h.dead == 0 then
    return reject("reject", call_, flow, item, "the workflow is " .. state .. ": nothing has failed", "inspect_workflow")
  end
  return nil
end

local function accept(call_, flow, item)
  local h = flow.h
  call.set(
    flow, header.ACKNOWLEDGED,
    call.number(h.recoveries) .. "," .. flow.since .. "|" .. item.actor .. "|" .. item.reason
  )
  if h.review ~= "" then
    h.review, flow.marked = "", true
  end
  evidence.accept(call_, flow, item, "accepted", "", "the end of the workflow is acknowledged")
  return { "accepted" }
end

return function(keys, args)
  local call_ = call.open(keys)
  local flow = call.flow(call_, 1, {})
  local item = {
    action = "acknowledge", scope = "workflow", step = "", call = args[3], actor = args[4], reason = args[5],
    note = args[6],
  }
  local answer = judge(call_, flow, item, args[2] == "1") or accept(call_, flow, item)
  flush.commit(call_, args[1])
  if answer[1] == "rejected" then
    return answer
  end
  return { answer[1], unpack(flush.header(flow)) }
end
