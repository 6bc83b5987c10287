-- Commands that a workflow of semantics version 2 does not know.
local M = {}

-- Puts a workflow of version 2 under version 3, as a command needs that, and leaves evidence.
function M.need_branching(tx, workflow, item)
  if not workflow.b then
    transaction.raise_semantics(workflow)
    evidence.accept(
      tx, workflow, item, "accepted", "semantics_raised", "the workflow follows semantics version 3 from now on"
    )
  end
end

return M
