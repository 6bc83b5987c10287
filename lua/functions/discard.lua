-- discard: removes the staged parts of an abandoned insert whose time is over; never a visible workflow.
--
-- Writes: the two hashes, the list of staged inserts.
return function(keys)
  local tx = transaction.open(keys)
  local workflow, staged = transaction.workflow(tx, 1, {}), keys[keyslots.STAGED]
  local due = tonumber(command("ZSCORE", staged, workflow.id) or nil)
  if not workflow.h and due and due < tx.ms then
    command("UNLINK", workflow.w, workflow.p)
    command("ZREM", staged, workflow.id)
  end
end
