-- show: the headers of workflows.
--
-- Keys: the partition's, then four of each workflow (keyslots).
-- Reply: for each workflow {static, counts, context}, or {} where there is none. Reads only.
return function(keys)
  local replies = {}
  for slot = 1, (#keys - keyslots.FIRST_FLOW + 1) / keyslots.FLOW_STRIDE do
    local flow = keyslots.flow(keys, slot)
    local found = redis.call("HMGET", flow.w, ":s", ":c")
    replies[slot] = found[1] and { found[1], found[2], redis.call("HGET", flow.p, ":") } or {}
  end
  return replies
end
