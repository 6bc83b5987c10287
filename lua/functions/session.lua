-- session: a workflow's recovery session, with its header.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the session's number, or "" for the latest.
-- Reply: {static, counts, context, number, session}, without the last two when there is none; {} where
--   there is no workflow. Reads only.
-- Bound: one session, with at most 1,000 changes.
return function(keys, args)
  local workflow = transaction.workflow(transaction.open(keys), 1, {})
  if not workflow.h then
    return {}
  end
  local number = args[1] ~= "" and args[1] or transaction.number(workflow.h.recoveries)
  local text = recovery.stored(workflow, number)
  local context = workflow.h.context == "c" and command("HGET", workflow.p, ":")
  return { workflow.static, workflow.counts, context, text and number, text }
end
