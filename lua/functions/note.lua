-- note: leaves evidence of a command that the client has judged: an insert that met an earlier one
-- under its key, or has taken the key over from one that ended badly, a signal that the workflow has consumed before,
-- or what this library must not do to a workflow of other semantics.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, the action, "duplicate", "already_consumed", "key_replaced"
--   or the reason code of a refusal, the call id, the message, the client's note, then, if not the workflow as a whole is
--   meant, the scope and the step.
-- Reply: {"", stamp}, and the workflow's header: static, counts, context.
-- Bound: one entry; of a call that was sent before, the 256 latest are looked through.
return function(keys, args)
  local tx = transaction.open(keys)
  local workflow = transaction.workflow(tx, 1, {})
  local item = {
    action = args[3], scope = args[8] or "workflow", step = args[9] or "", call = args[5], note = args[7],
  }
  local again, taken_over = args[2] == "1", args[4] == "key_replaced"
  local before = again and not taken_over and evidence.refused_before(tx, workflow, item)
  if taken_over then
    if workflow.h and not (again and evidence.accepted_before(workflow, item)) then
      evidence.accept(tx, workflow, item, "accepted", "key_replaced", args[6])
      flush.commit(tx, args[1])
    end
  elseif not before then
    if args[4] == "duplicate" then
      evidence.duplicate(tx, workflow, item)
    elseif args[4] == "already_consumed" then
      evidence.already_consumed(tx, workflow, item)
    else
      before = evidence.reject(tx, workflow, item, args[4], args[6])
    end
    flush.commit(tx, args[1])
  end
  return { before and before[3] or tx.us, unpack(flush.header(workflow)) }
end
