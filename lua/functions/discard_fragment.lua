-- discard_fragment: removes staged pieces of a fragment, the last ones first, unless they may be needed: while something
-- is left to be walked, that may be the fragment.
--
-- Bound: 20 pieces.
-- Writes: the payload hash, the list of what is staged.
local PIECES_PER_CALL = 20

return function(keys, token, overdue)
  local tx = transaction.open(keys)
  local workflow, staged = transaction.workflow(tx, 1, {}), keys[keyslots.STAGED]
  local entry = staging.fragment(workflow, token)
  local due = tonumber(command("ZSCORE", staged, entry) or nil)
  if overdue and (not due or due >= tx.ms) then
    return false
  end
  if workflow.h and workflow.h.head < workflow.h.tail then
    staging.give_up_later(tx, workflow, token)
    return false
  end
  local count, fields = tonumber(command("HGET", workflow.p, "+" .. token) or 0), {}
  for number = count, max(count - PIECES_PER_CALL + 1, 1), -1 do
    fields[#fields + 1] = growth.piece(token, number)
  end
  if count > #fields then
    command("HDEL", workflow.p, unpack(fields))
    command("HSET", workflow.p, "+" .. token, integer.text(count - #fields))
    return true
  end
  command("HDEL", workflow.p, "+" .. token, unpack(fields))
  command("ZREM", staged, entry)
  return false
end
