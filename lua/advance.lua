-- advance: takes an unfinished release a slice further.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, the origin "step:attempt" whose row is wanted
--   back, or "".
-- Reply: {"1" while walk entries are left, else "", the origin's row or "", static, counts, context}.
-- Writes and publishes: as complete does. Sent twice, it takes the release two slices further.
return function(keys, args)
  local call_ = call.open(keys)
  local flow = call.flow(call_, 1, {})
  if not flow.h then
    return { "", "" }
  end
  if flow.h.semantics == states.VERSION and walk.advance(call_, flow) then
    flush.commit(call_, args[1])
  end
  local row = args[3] ~= "" and command("HGET", flow.p, "r:" .. args[3]) or ""
  return { flow.h.head < flow.h.tail and "1" or "", row, unpack(flush.header(flow)) }
end
