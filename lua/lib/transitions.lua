-- Transitions of a single step: it leaves its queue, timer or wait, becomes available, or ends.
local M = {}
local AVAILABLE = { state = "a", cause = "" }

-- Takes the step out of wherever it waits.
function M.withdraw(tx, workflow, name, step)
  if step.state == "a" then
    queue.remove(tx, workflow, name, step.class, step.order)
    step.order, step.claim = "", ""
  elseif step.state == "r" then
    transaction.drop_timer(tx, workflow, "r", name)
    step.due, step.order, step.claim = "", "", ""
  elseif step.state == "e" then
    transaction.drop_timer(tx, workflow, "l", name)
    step.order, step.claim = "", ""
  elseif step.state == "w" then
    waits.abandon(tx, workflow, name)
  elseif step.state == "p" then
    step.walked, step.claim = "", "" -- it may have waited for a missing result, or been held
  end
end

-- Gives the step another state. When it ends by that, the end is counted, unless it had ended in that state before
-- and was only held by a recovery since.
function M.become(tx, workflow, name, step, outcome, held)
  local state, since = outcome.state, workflow.since
  if step.state ~= state then
    transaction.recount(tx, workflow, step.state, state, 1)
  end
  step.state, step.cause, step.since = state, outcome.cause, since
  if workflow.b then
    transaction.remark(tx, workflow, step, outcome)
  end
  if states.TERMINAL[state] then
    step.finished = since
    if held ~= state then
      transaction.count_move(tx, workflow, outcome.counter, 1)
      if state ~= "x" then -- cancelled
        throughput.step(tx, step)
      end
    end
  end
  workflow.dirty[name] = true
  workflow.moved = true
end

-- Cancels a step for a cancel request; it has left its old place already. Its edges need no walking, as the request
-- ends every child; but under semantics version 3 some children run nevertheless, and flush has them walked.
function M.cancel_by_request(tx, workflow, name, step)
  M.become(tx, workflow, name, step, states.CANCELLED_BY_REQUEST)
  if workflow.b and record.children(step) ~= "" then
    step.walked = "0"
    workflow.ended = workflow.ended or {}
    workflow.ended[#workflow.ended + 1] = name
  end
end

-- Puts a step that has left its old place into the ready queue, at the order that it had before, if given; under an
-- open cancel request nothing becomes available but steps that always run. Returns whether it did.
function M.enqueue(tx, workflow, name, step, order)
  if workflow.h.cancel ~= "" and not branching.outlasts(workflow, step) then
    M.cancel_by_request(tx, workflow, name, step)
    return false
  end
  M.become(tx, workflow, name, step, AVAILABLE)
  step.order = queue.add(tx, workflow, name, step.class, order)
  return true
end

-- A retry whose time has come, or a pause that is over: the record keeps its place in the queue, and whether its next
-- claim counts.
function M.run_again(tx, workflow, name, step)
  local order, claim = step.order, step.claim
  M.withdraw(tx, workflow, name, step)
  if M.enqueue(tx, workflow, name, step, order ~= "" and order or nil) then
    step.claim = claim
  end
end

return M
