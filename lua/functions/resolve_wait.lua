-- resolve_wait: delivers a signal to the wait that its topic has chosen. Returns the outcome.
--
-- Writes: the step and its wait, counts, evidence, ready queue, timers, index, statistics.
-- Publishes: step_available; workflow_terminal, when deadlines have passed.
local NEVER = "0"

local function resolve(tx, workflow, item, step, signal, payload)
  local wait = waits.resolve(tx, workflow, item.step, signal, payload)
  evidence.accept(tx, workflow, item, "accepted", "", format("wait %d has consumed signal %s", wait.n, signal))
  transitions.enqueue(tx, workflow, item.step, step)
  step.claim = claims.UNCOUNTED
end

local function fate(tx, workflow, item, wait, signal, payload)
  local step = transaction.step(workflow, item.step)
  if wait.status == "w" and workflow.h.cancel ~= "" and not branching.outlasts(workflow, step) then
    sweep.cancel(tx, workflow, item.step)
    return "g"
  end
  if wait.status == "w" then
    resolve(tx, workflow, item, step, signal, payload)
    return "r"
  end
  if wait.status == "r" then
    return wait.signal_id == signal and "r" or "g"
  end
  return wait.status == "x" and "x" or "g"
end

return function(tx, step, n, signal_id, payload, note)
  local item = { action = "deliver_signal", scope = "step", step = step, call = "", note = note }
  local workflow = transaction.workflow(tx, 1, { step })
  if not workflow.h then
    return { "g", NEVER }
  end
  if not states.IMPLEMENTED[workflow.h.semantics] then
    return { "", NEVER }
  end
  expiry.expire(tx, workflow, { step })
  local wait = waits.numbered(workflow, step, n)
  local answer = wait and fate(tx, workflow, item, wait, signal_id, payload) or "g"
  flush.commit(tx)
  return { answer, wait and wait.stamp or NEVER }
end
