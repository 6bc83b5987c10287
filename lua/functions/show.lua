-- show: the headers of workflows.
--
-- Keys: the partition's, then each workflow's (keyslots).
-- Bound: as many workflows as are asked for (64); contexts and tags of 1 MB, and those of at most one over that.
local NO_ORDER = "0000000" -- inserted by an earlier release

return function(keys)
  local replies, bytes = {}, 0
  for slot = 1, (#keys - keyslots.FIRST_WORKFLOW + 1) / keyslots.WORKFLOW_STRIDE do
    if bytes > states.REPLY_BYTES then
      break
    end
    local w, p = keyslots.workflow(keys, slot)
    local found = command("HMGET", w, ":s", ":c", header.ORDER, header.ACKNOWLEDGED, header.BRANCHING, header.TAGS)
    local context = found[1] and command("HGET", p, ":")
    bytes = bytes + (context and #context or 0) + (found[6] and #found[6] or 0)
    local counts = found[1] and header.for_client(found[2], found[4], found[5], found[6])
    replies[slot] = found[1] and { found[1], counts, context, found[3] or NO_ORDER }
  end
  return replies
end
