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
  local tx = transaction.open(keys)
  local workflow = transaction.workflow(tx, 1, {})
  if not workflow.h then
    return { "", "" }
  end
  local more = false
  if workflow.h.semantics == states.VERSION then
    local due = waits.expire(tx, workflow, {})
    propagate.advance(tx, workflow)
    more = due or workflow.h.head < workflow.h.tail
  end
  flush.commit(tx, args[1])
  local row = args[3] ~= "" and command("HGET", workflow.p, "r:" .. args[3]) or ""
  return { more and "1" or "", row, unpack(flush.header(workflow)) }
end
