-- advance: takes an unfinished release a slice further, and ends waits whose deadline has passed.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, the origin "step:attempt" whose row is wanted
--   back, or "".
-- Reply: {"1" while walk entries or such waits are left that this library may move, else "", the origin's
--   row or "", static, counts, context, flag}.
-- Bound: one step of the walk: the call's budget of edges, or one chunk (200) of steps; 100 waits that expire.
-- Writes and publishes: as complete does. Sent twice, it takes the release two slices further.
return function(keys, args)
  local call_ = call.open(keys)
  local flow = call.flow(call_, 1, {})
  if not flow.h then
    return { "", "" }
  end
  local more = false
  if flow.h.semantics == states.VERSION then
    local due = waits.expire(call_, flow, {})
    walk.advance(call_, flow)
    more = due or flow.h.head < flow.h.tail
  end
  flush.commit(call_, args[1])
  local row = args[3] ~= "" and command("HGET", flow.p, "r:" .. args[3]) or ""
  return { more and "1" or "", row, unpack(flush.header(flow)) }
end
