-- agenda: what the topics of a workflow's waits have not been told.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: how many steps at most.
-- Reply: for each wait {step, n, what became of it, stamp, signal, name|key, ""} (waits.lua); for a step of
--   which nothing is to be told, {step, 0, ""}. Nothing of a workflow of other semantics. Reads only.
return function(keys, args)
  local tx = transaction.open(keys)
  local workflow = transaction.workflow(tx, 1, {})
  local found = {}
  if not workflow.h or workflow.h.semantics ~= states.VERSION then
    return found
  end
  local steps = command("ZRANGEBYSCORE", workflow.d, "-inf", "(0", "LIMIT", "0", args[1])
  for i = 1, #steps do
    local name, before = sub(steps[i], 2), #found
    waits.list(workflow, name, false, found)
    if #found == before then
      found[#found + 1] = { name, "0", "" }
    end
  end
  return found
end
