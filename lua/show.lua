-- show: the headers of workflows.
--
-- Keys: the partition's, then each workflow's (keyslots).
-- Reply: for each workflow {static, counts, context}, or {} where there is none. Reads only.
return function(keys)
  local replies = {}
  for slot = 1, (#keys - keyslots.FIRST_FLOW + 1) / keyslots.FLOW_STRIDE do
    local w, p = keyslots.flow(keys, slot)
    local found = command("HMGET", w, ":s", ":c")
    replies[slot] = found[1] and { found[1], found[2], command("HGET", p, ":") } or {}
  end
  return replies
end
