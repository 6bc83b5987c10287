-- resolve_child: tells a step that its child workflow has ended, which ends the step; or, without a state, asks what the
-- step makes of the child.
--
-- Reply: {outcome, the number of the step's latest wait, header}. The outcome: "w" the step waits for the child, "e" it
--   may come to, as it runs under the lease that has asked for the child, "r" it has taken the child's results, "f" it
--   has failed by the child, "g" it does not wait for the child, "n" the workflow is gone, "" it is of other semantics.
-- Bound: the call's budget of edges; 100 waits that expire.
-- Writes: the step, its wait and its row, counts, evidence, ready queue, timers, index, statistics.
-- Publishes: step_available, workflow_terminal.
local COMPLETED = states.NAME.c

local function end_step(tx, workflow, item, state, payload)
  local step, asked = transaction.step(workflow, item.step), state == COMPLETED and "c" or "f"
  local wait = waits.latest(workflow, item.step)
  waits.end_with_child(tx, workflow, item.step, asked == "c")
  evidence.accept(
    tx, workflow, item, "accepted", "", format("wait %d is over: child workflow %s has ended", wait.n, item.call)
  )
  if step.attempt == step.reported then
    step.attempt = integer.text(step.attempt + 1)
  end
  step.reported = step.attempt
  attempts.note_start(workflow, step)
  transitions.become(tx, workflow, item.step, step, states.COMPLETION[asked])
  local row = attempts.row(
    tx, { asked = asked, call = item.call, command_id = "", lease = "" }, step.state, item.note
  )
  if record.children(step) ~= "" then
    attempts.descend(tx, workflow, item.step, step, row)
  end
  results.put(workflow, item.step .. ":" .. step.attempt, codec.write_row(row), payload)
  return asked == "c" and "r" or "f"
end

-- Tells the step the end of the child, if it waits for that; returns the outcome (above).
local function fate(tx, workflow, item, lease, state, payload)
  local step, wait = transaction.step(workflow, item.step), waits.latest(workflow, item.step)
  if not wait or links.child(wait) ~= item.call then
    return step and step.state == "e" and claims.is_current(step, lease) and "e" or "g"
  end
  if wait.status ~= "w" then
    return (wait.status == "r" or wait.status == "f") and wait.status or "g"
  end
  if workflow.h.cancel ~= "" and not branching.outlasts(workflow, step) then
    sweep.cancel(tx, workflow, item.step)
    return "g"
  end
  return state == "" and "w" or end_step(tx, workflow, item, state, payload)
end

return function(tx, step, lease, child, state, payload, note)
  local item = { action = "start_child", scope = "step", step = step, call = child, note = note }
  local workflow = transaction.workflow(tx, 1, { step })
  if not workflow.h then
    return { "n", 0, false }
  end
  if not states.IMPLEMENTED[workflow.h.semantics] then
    return { "", 0, false }
  end
  expiry.expire(tx, workflow, { step })
  local outcome = fate(tx, workflow, item, lease, state, payload)
  local wait = waits.latest(workflow, step)
  flush.commit(tx)
  return { outcome, wait and wait.n or 0, flush.header(workflow) }
end
