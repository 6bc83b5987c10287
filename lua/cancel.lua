-- cancel: asks a workflow to end. What does not run is cancelled, a slice at a time; when it is forced, what
-- runs is cancelled too, and its lease taken away.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, the call id, the reason (quoted), the client's note,
--   "1" to force it.
-- Reply: {"accepted"|"duplicate", static, counts, context, flag}, or {"rejected", reason, stamp, message}.
-- Bound: one chunk (200) of steps; 100 waits that expire.
-- Writes: the header, records, counts, evidence, ready queue, timers, waits, statistics.
-- Publishes: workflow_terminal.
local FORCED = "a cancel request stands, and takes leases away"

-- Whether a standing request leaves steps running that this one is to cancel. A sweep of an earlier release takes
-- no leases away, so one that has ended may have left some.
local function leaves_leases(flow, item)
  return item.force and flow.h.e > 0 and not (flow.h.head < flow.h.tail and sweep.is_forced(flow))
end

local function repeat_(call_, flow, item)
  evidence.duplicate(call_, flow, item)
  return { "duplicate" }
end

local function judge(call_, flow, item, again)
  local refused = evidence.refuse_workflow(call_, flow, item, again)
  if refused then
    return refused
  end
  if again and evidence.accepted_before(flow, item) then
    return { "accepted" } -- even when a recovery has closed the request since
  end
  if flow.h.cancel ~= "" then
    return not leaves_leases(flow, item) and repeat_(call_, flow, item) or nil
  end
  local state = states.workflow_state(flow.h)
  if states.WORKFLOW_CODE[state] then
    return evidence.reject_operator(call_, flow, item, "already_terminal", "the workflow is " .. state)
  end
  return nil
end

local function accept(call_, flow, item)
  if flow.h.cancel == "" then
    flow.h.cancel = flow.since .. ":" .. item.reason
  end
  flow.h.review = ""
  evidence.accept(call_, flow, item, "accepted", "", item.force and FORCED or "a cancel request stands")
  sweep.begin(flow, item.force)
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
    force = args[6] == "1",
  }
  waits.expire(call_, flow, {})
  local answer = judge(call_, flow, item, args[2] == "1") or accept(call_, flow, item)
  flush.commit(call_, args[1])
  if answer[1] == "rejected" then
    return answer
  end
  return { answer[1], unpack(flush.header(flow)) }
end
