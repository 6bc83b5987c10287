-- wait_outcomes: the outcomes of some waits, by the records of their workflows.
return function(keys, asked)
  local tx, found = transaction.open(keys), {}
  for i = 1, #asked do
    local wait = asked[i]
    local workflow = tx.workflows[wait.slot] or transaction.workflow(tx, wait.slot, {})
    if workflow.h and not states.IMPLEMENTED[workflow.h.semantics] then
      found[i] = { "", "0", "" }
    elseif workflow.h then
      found[i] = { waits.fate(workflow, wait.step, wait.n) }
    else
      found[i] = { "n", "0", "" }
    end
  end
  return found
end
