-- Carries out a workflow's start, its deadline and a cancel request.
local M = {}

-- Whether the workflow is to start later, or at its parent's word.
function M.is_unstarted(workflow)
  return branching.start_due(workflow) or links.is_held(workflow)
end

local DEADLINE_NOTE = '{"actor":"deadline","source":"server"}'

-- Starts a workflow that was to start later: the steps without parents are released.
function M.start(tx, workflow)
  workflow.b.starts, workflow.moved = "", true
  if links.is_held(workflow) then
    links.become(workflow, "s")
  end
  local done = propagate.run(tx, workflow, { "^" })
  propagate.append(workflow, "", done, done.at)
end

-- Ends the steps as a cancel request does that was just made, unless something else is left to be walked first. A
-- workflow that has not started starts first, so that its steps that always run can run.
function M.carry_out(tx, workflow, forced)
  if M.is_unstarted(workflow) then
    M.start(tx, workflow)
  end
  local entry = sweep.begin(workflow, forced)
  if workflow.h.head + 1 == workflow.h.tail then
    sweep.advance(tx, workflow, entry)
  end
end

-- Asks a workflow to end when its deadline has passed.
function M.exceed(tx, workflow)
  local item = { action = "request_cancel", scope = "workflow", step = "", call = "", note = DEADLINE_NOTE }
  workflow.b.deadline, workflow.b.overdue = "", workflow.since
  workflow.h.cancel, workflow.h.overdue = workflow.since .. ":the%20deadline%20has%20passed", true
  evidence.accept(tx, workflow, item, "accepted", "deadline_exceeded", "a cancel request stands")
  M.carry_out(tx, workflow, false)
end

-- Carries out start and deadline, when they are due.
function M.fire(tx, workflow)
  local starts = branching.start_due(workflow)
  if starts and starts <= tx.ms then
    M.start(tx, workflow)
  end
  local deadline = branching.deadline_due(workflow)
  if deadline and deadline <= tx.ms then
    M.exceed(tx, workflow)
  end
end

return M
