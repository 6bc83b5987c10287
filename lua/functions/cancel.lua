-- cancel: asks a workflow to end. Steps that do not run are cancelled, a slice at a time. A forced request cancels
-- running steps too, and takes their leases away.
--
-- Bound: one chunk (200) of steps; 100 waits that expire.
-- Writes: the header, records, counts, evidence, ready queue, timers, waits, statistics.
-- Publishes: workflow_terminal.
local FORCED = "a cancel request stands, and takes leases away"

-- Whether an open cancel request leaves steps running that this one is to cancel. The sweep of an earlier release
-- takes no leases away, so a sweep that has ended may have left some.
local function leaves_leases(workflow, item)
  if workflow.b then
    return item.force and workflow.h.e > 0 and not sweep.is_forced(workflow) -- steps that always run keep their leases
  end
  return item.force and workflow.h.e > 0 and not (workflow.h.head < workflow.h.tail and sweep.is_forced(workflow))
end

local function repeat_(tx, workflow, item)
  evidence.duplicate(tx, workflow, item)
  return { "duplicate" }
end

local function judge(tx, workflow, item)
  local refused = evidence.refuse_workflow(tx, workflow, item, tx.again)
  if refused then
    return refused
  end
  if tx.again and evidence.accepted_before(workflow, item) then
    return { "accepted" } -- even when a recovery has closed the request since
  end
  if workflow.h.cancel ~= "" then
    return not leaves_leases(workflow, item) and repeat_(tx, workflow, item) or nil
  end
  local state = states.workflow_state(workflow.h)
  if states.WORKFLOW_CODE[state] then
    return evidence.reject_operator(tx, workflow, item, "already_terminal", "the workflow is " .. state)
  end
  return nil
end

local function accept(tx, workflow, item)
  if workflow.h.cancel == "" then
    workflow.h.cancel = workflow.since .. ":" .. item.reason
  end
  workflow.h.review = ""
  evidence.accept(tx, workflow, item, "accepted", "", item.force and FORCED or "a cancel request stands")
  requests.carry_out(tx, workflow, item.force)
  return { "accepted" }
end

return function(tx, call_id, reason, note, force)
  local workflow = transaction.workflow(tx, 1, {})
  local item = {
    action = "request_cancel", scope = "workflow", step = "", call = call_id, reason = reason, note = note,
    force = force,
  }
  expiry.expire(tx, workflow, {})
  local answer = judge(tx, workflow, item) or accept(tx, workflow, item)
  flush.commit(tx)
  return flush.reply(workflow, answer)
end
