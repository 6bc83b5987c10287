-- advance: takes an unfinished release a slice further, and ends waits whose deadline has passed.
--
-- Bound: one slice: the call's budget of edges, or one chunk (200) of steps; 100 waits that expire.
-- Writes and publishes as complete does. Sent twice, it takes the release two slices further.
return function(tx, origin)
  local workflow = transaction.workflow(tx, 1, {})
  if not workflow.h then
    return { "", false, false }
  end
  local more = false
  if states.IMPLEMENTED[workflow.h.semantics] then
    local due = expiry.expire(tx, workflow, {})
    propagate.advance(tx, workflow)
    more = due or workflow.h.head < workflow.h.tail
  end
  flush.commit(tx)
  local row = origin and command("HGET", workflow.p, "r:" .. origin) or false
  return { more and "1" or "", row, flush.header(workflow) }
end
