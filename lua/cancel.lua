-- cancel: asks a workflow to end. What does not run is cancelled, a slice at a time.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, the call id, the reason (quoted), the client's note.
-- Reply: {"accepted"|"duplicate", static, counts, context, flag}, or {"rejected", reason, stamp, message}.
-- Bound: one chunk (200) of steps; 100 waits that expire.
-- Writes: the header, records, counts, evidence, ready queue, timers, waits, statistics.
-- Publishes: workflow_terminal.
local function judge(call_, flow, item, again)
  local refused = evidence.refuse_workflow(call_, flow, item, again)
  if refused then
    return refused
  end
  if again and evidence.accepted_before(flow, item) then
    return { "accepted" } -- even when a recovery has closed the request since
  end
  if flow.h.cancel ~= "" then
    evidence.duplicate(call_, flow, item)
    return { "duplicate" }
  end
  local state = states.workflow_state(flow.h)
  if states.WORKFLOW_CODE[state] then
    return evidence.reject_operator(call_, flow, item, "already_terminal", "the workflow is " .. state)
  end
  return nil
end

local function accept(call_, flow, item)
  flow.h.cancel, flow.h.review = flow.since .. ":" .. item.reason, ""
  evidence.accept(call_, flow, item, "accepted", "", "a cancel request stands")
  sweep.begin(flow)
  if flow.h.head + 1 == flow.h.tail then
    sweep.advance(call_, flow, 0)
  end
  return { "accepted" }
end

return function(keys, args)
  local call_ = call.open(keys)
  local flow = call.flow(call_, 1, {})
  local item = {
    action = "request_cancel", scope = "workflow", step = "", call = args[3], reason = args[4], note = args[5],
  }
  waits.expire(call_, flow, {})
  local answer = judge(call_, flow, item, args[2] == "1") or accept(call_, flow, item)
  flush.commit(call_, args[1])
  if answer[1] == "rejected" then
    return answer
  end
  return { answer[1], unpack(flush.header(flow)) }
end
