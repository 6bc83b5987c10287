-- discard: removes what an insert has staged and left, if its time is over.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Reply: nothing. Of a workflow that is visible it removes nothing.
-- Writes: the two hashes, the list of staged inserts.
return function(keys)
  local call_ = call.open(keys)
  local flow, staged = call.flow(call_, 1, {}), keys[keyslots.STAGED]
  local due = tonumber(command("ZSCORE", staged, flow.id) or nil)
  if not flow.h and due and due < call_.ms then
    command("UNLINK", flow.w, flow.p)
    command("ZREM", staged, flow.id)
  end
end
