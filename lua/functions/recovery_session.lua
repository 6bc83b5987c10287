-- recovery_session: one of a workflow's recovery sessions, or the latest, with the workflow's header.
--
-- Bound: one session, with at most 1,000 changes.
return function(keys, number)
  local workflow = transaction.workflow(transaction.open(keys), 1, {})
  if not workflow.h then
    return { false }
  end
  number = number or integer.text(workflow.h.recoveries)
  local text = recovery.stored(workflow, number)
  return { flush.header(workflow), text and number or false, text or false }
end
