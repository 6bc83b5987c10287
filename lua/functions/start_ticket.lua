-- start_ticket: turns a ticket into a lease of the first run that starts the step.
--
-- Reply: {false, claim, flag}, or {refusal, false, flag}; a claim as in dispatch.lua, the flag as in a header.
-- Writes: the record, counts, evidence, timers, statistics. A passed ticket or lease is taken away. Sent again, it
--   returns the same claim.
-- Publishes: step_available, workflow_terminal, where a lease or a wait has passed.

-- The token of an executing step's claim in two: the ticket's, and the run's or "". Nothing for any other claim.
local function parts(step)
  return match(step.state == "e" and codec.claim_token(step.claim) or "", "^(.*%.)([^.]*)$")
end

-- Takes away a claim whose time has passed. Returns whether it had.
local function lapse(tx, workflow, name, step)
  if claims.due(workflow, step) > tx.ms then
    return false
  end
  claims.lapse(tx, workflow, name, step)
  claims.walk_lapsed(tx, workflow)
  return true
end

-- The refusal of a start that changes nothing else, or nil when its run has the step, or is to have it.
local function judge(tx, workflow, item)
  local refused = evidence.refuse_workflow(tx, workflow, item, tx.again)
  if refused then
    return refused
  end
  local step = transaction.step(workflow, item.step)
  if not step then
    return evidence.reject(tx, workflow, item, "step_not_found", "the workflow has no such step")
  end
  local ticket, run = parts(step)
  if ticket ~= item.ticket then
    return evidence.reject(tx, workflow, item, "stale_ticket", "the ticket is void: the step is " .. states.NAME[step.state])
  end
  if lapse(tx, workflow, item.step, step) then
    return evidence.reject(
      tx, workflow, item, "stale_ticket", run == "" and "the ticket was held for too long" or "the lease of its run has passed"
    )
  end
  if run ~= "" and run ~= item.run then
    return evidence.reject(tx, workflow, item, "already_started", claims.worker(step) .. " has started the step")
  end
  if run == "" and workflow.h.cancel ~= "" and not branching.outlasts(workflow, step) then
    return evidence.reject(tx, workflow, item, "cancel_requested", "a cancel request stands")
  end
  return nil
end

local function accept(tx, workflow, item, worker, lease_ms)
  local step = transaction.step(workflow, item.step)
  local _, run = parts(step)
  if run == "" then
    claims.start_ticket(tx, workflow, item.step, step, item.run, worker, lease_ms)
  elseif not tx.again then
    evidence.duplicate(tx, workflow, item)
  end
end

return function(tx, step, ticket, run, call_id, worker, lease_ms, note)
  local item = {
    action = "start", scope = "step", step = step, call = call_id, note = note, ticket = ticket .. ".", run = run,
  }
  local workflow = transaction.workflow(tx, 1, { step })
  expiry.expire(tx, workflow, { step })
  local refused = judge(tx, workflow, item)
  if not refused then
    accept(tx, workflow, item, worker, lease_ms)
  end
  flush.commit(tx)
  local claim = not refused and dispatch.reply({ { workflow = workflow, step = step } }, dispatch.room())[1]
  return { refused or false, claim, workflow.h and waits.flag(workflow) or "" }
end
