-- The end of a step's attempt: its row, and the walk of the step's edges.
local M = {}

-- The row of an accepted report, before any edge is walked.
function M.row(tx, item, status, note)
  return {
    asked = item.asked, status = status, stamp = transaction.stamp(tx), call = item.call,
    command = item.command_id, lease = item.lease, open = "0", released = "0", cancelled = "0",
    released_names = "", cancelled_names = "", note = note,
  }
end

-- A step that was never claimed starts with its first report.
function M.note_start(workflow, step)
  if step.started == "" then
    step.started = workflow.since
  end
  if workflow.h.started == "" then
    workflow.h.started = workflow.since
  end
end

-- Walks the ended step's edges within the call's budget. If edges remain, an entry is left from which a later call
-- goes on.
function M.descend(tx, workflow, name, step, row)
  step.walked = "0"
  local done = propagate.descend(tx, workflow, { name })
  results.add_walked(row, done.released, done.cancelled)
  row.open = integer.text(propagate.append(workflow, name .. ":" .. step.attempt, done, done.at))
end

return M
