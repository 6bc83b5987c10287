-- acknowledge: records that an operator has seen a workflow's bad end and accepts it.
--
-- Writes: the acknowledgement (header.lua), the header when a refusal was to be reviewed, evidence, statistics.
local function reject(kind, tx, workflow, item, message, next_step)
  local reply = evidence[kind](tx, workflow, item, "illegal_transition", message)
  reply[5] = next_step
  return reply
end

local function judge(tx, workflow, item)
  local refused = evidence.refuse_workflow(tx, workflow, item, tx.again)
  if refused then
    return refused
  end
  if tx.again and evidence.accepted_before(workflow, item) then
    return { "accepted" }
  end
  local h, state = workflow.h, states.workflow_state(workflow.h)
  if not states.WORKFLOW_CODE[state] then
    return reject("reject_operator", tx, workflow, item, "the workflow is " .. state, "explain_workflow")
  end
  if header.is_acknowledged(h, command("HGET", workflow.w, header.ACKNOWLEDGED)) then
    evidence.duplicate(tx, workflow, item)
    return { "duplicate" }
  end
  if h.f + h.d + h.t + h.dead == 0 then
    return reject("reject", tx, workflow, item, "the workflow is " .. state .. ": nothing has failed", "inspect_workflow")
  end
  return nil
end

local function accept(tx, workflow, item)
  local h = workflow.h
  transaction.set(workflow, header.ACKNOWLEDGED, codec.write_acknowledgement({
    recoveries = h.recoveries, since = workflow.since, actor = item.actor, reason = item.reason,
  }))
  if h.review ~= "" then
    h.review, workflow.marked = "", true
  end
  evidence.accept(tx, workflow, item, "accepted", "", "the end of the workflow is acknowledged")
  return { "accepted" }
end

return function(tx, call_id, actor, reason, note)
  local workflow = transaction.workflow(tx, 1, {})
  local item = {
    action = "acknowledge", scope = "workflow", step = "", call = call_id, actor = actor, reason = reason,
    note = note,
  }
  local answer = judge(tx, workflow, item) or accept(tx, workflow, item)
  flush.commit(tx)
  return flush.reply(workflow, answer)
end
