-- record_evidence: records evidence of a decision that the client has taken: an insert met an earlier workflow under
-- its key, or took the key over from one that ended badly; a signal was consumed by the workflow before; this release
-- may not carry out a command on a workflow of other semantics.
--
-- Bound: one entry; for a call that was sent before, the 256 latest entries are searched.
-- Writes: evidence.

local function accept(tx, workflow, item, status, message)
  if workflow.h and not (tx.again and evidence.accepted_before(workflow, item)) then
    evidence.accept(tx, workflow, item, "accepted", status, message)
    flush.commit(tx)
  end
end

-- Records an entry among the noise. Returns its stamp when it is a refusal.
local function add_noise(tx, workflow, item, status, message)
  if status == "duplicate" then
    evidence.duplicate(tx, workflow, item)
  elseif status == "already_consumed" then
    evidence.already_consumed(tx, workflow, item)
  else
    return evidence.reject(tx, workflow, item, status, message)[3]
  end
  return nil
end

return function(tx, action, status, call_id, message, note, scope, step)
  local workflow = transaction.workflow(tx, 1, {})
  local item = { action = action, scope = scope, step = step, call = call_id, note = note }
  local stamp
  if status == "key_replaced" then
    accept(tx, workflow, item, status, message)
  else
    local before = tx.again and evidence.refused_before(tx, workflow, item)
    stamp = before and before[3] or add_noise(tx, workflow, item, status, message)
    if not before then
      flush.commit(tx)
    end
  end
  return { stamp or tx.us, workflow.h and flush.header(workflow) or false }
end
