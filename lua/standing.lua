-- standing: what has become of some waits, by the records of their workflows.
--
-- Keys: the partition's, then each workflow's (keyslots).
-- Arguments: for each wait: slot, step, number.
-- Reply: for each {what its topic is to be told, stamp, the id of the signal that resolved it or ""}:
--   "w" it waits, "x" expired, "r" resolved, "g" otherwise over, "n" gone with its workflow; "" where the
--   workflow's semantics are not this library's. Reads only.
return function(keys, args)
  local call_, found = call.open(keys), {}
  for at = 1, #args, 3 do
    local slot = tonumber(args[at])
    local flow = call_.flows[slot] or call.flow(call_, slot, {})
    if flow.h and flow.h.semantics ~= states.VERSION then
      found[#found + 1] = { "", "0", "" }
    elseif flow.h then
      found[#found + 1] = { waits.fate(flow, args[at + 1], tonumber(args[at + 2])) }
    else
      found[#found + 1] = { "n", "0", "" }
    end
  end
  return found
end
