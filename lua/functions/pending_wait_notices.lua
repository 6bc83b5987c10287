-- pending_wait_notices: the changes of which the topics of a workflow's waits, its children and its parent have not been
-- notified (waits.lua).
--
-- Empty for a workflow of other semantics. Bound: limit, in steps.
return function(keys, limit)
  local workflow = transaction.workflow(transaction.open(keys), 1, {})
  local found = {}
  if not workflow.h or not states.IMPLEMENTED[workflow.h.semantics] then
    return found
  end
  local steps = command("ZRANGEBYSCORE", keyslots.other(workflow.w, "d"), "-inf", "(0", "LIMIT", "0", limit)
  for i = 1, #steps do
    local name, before = sub(steps[i], 2), #found
    if steps[i] == links.MEMBER then
      found[1 + before] = workflow.link and { name, "0", workflow.link.state, "0", "", workflow.b.link, "" }
    else
      waits.list(workflow, name, false, found)
    end
    if #found == before then
      found[#found + 1] = { name, "0", "" }
    end
  end
  return found
end
