-- show: the headers of workflows.
--
-- Keys: the partition's, then each workflow's (keyslots).
-- Reply: for each workflow {static, counts as told (header.lua), context, order within its millisecond}; {} where
--   there is none, and nil when the contexts before it have filled the reply: it is to be asked for again. Reads only.
local NO_ORDER = "0000000" -- of what an earlier release has inserted

return function(keys)
  local replies, bytes = {}, 0
  for slot = 1, (#keys - keyslots.FIRST_WORKFLOW + 1) / keyslots.WORKFLOW_STRIDE do
    local w, p = keyslots.workflow(keys, slot)
    if bytes > states.REPLY_BYTES then
      replies[slot] = false
    else
      local found = command("HMGET", w, ":s", ":c", header.ORDER, header.ACKNOWLEDGED)
      local context = found[1] and command("HGET", p, ":")
      bytes = bytes + (context and #context or 0)
      replies[slot] = found[1] and { found[1], header.told(found[2], found[4]), context, found[3] or NO_ORDER } or {}
    end
  end
  return replies
end
