-- What can happen to one step that was taken apart: it leaves the place where it waits, or ends.
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

-- Gives the step another state, and when it ends by it, counts that; not when it had ended in that state
-- before, and was only held by a recovery since.
function M.become(tx, workflow, name, step, outcome, held)
  local state, since = outcome.state, workflow.since
  if step.state ~= state then
    transaction.recount(tx, workflow, step.state, state, 1)
  end
  step.state, step.cause, step.since = state, outcome.cause, since
  if states.TERMINAL[state] then
    step.finished = since
    if held ~= state then
      transaction.count(tx, outcome.counter, 1)
    end
  end
  workflow.dirty[name] = true
  workflow.moved = true
end

-- Puts a step that was taken out of where it stood into the ready queue, at an order that it had there
-- before, if given; while a cancel request stands, nothing becomes available. Returns whether it did.
function M.enqueue(tx, workflow, name, step, order)
  if workflow.h.cancel ~= "" then
    M.become(tx, workflow, name, step, states.CANCELLED_BY_REQUEST)
    return false
  end
  M.become(tx, workflow, name, step, AVAILABLE)
  step.order = queue.add(tx, workflow, name, step.class, order)
  return true
end

-- A retry whose time has come, or a pause that is over: it keeps what the record says of its place in the queue, and of
-- its next claim.
function M.run_again(tx, workflow, name, step)
  local order, claim = step.order, step.claim
  M.withdraw(tx, workflow, name, step)
  if M.enqueue(tx, workflow, name, step, order ~= "" and order or nil) then
    step.claim = claim
  end
end

return M
