-- standing: what has become of some waits, by the records of their workflows.
--
-- Keys: the partition's, then each workflow's (keyslots).
-- Arguments: for each wait: slot, step, number.
-- Reply: for each {what its topic is to be told, stamp, the id of the signal that resolved it or ""}:
--   "w" it waits, "x" expired, "r" resolved, "g" otherwise over, "n" gone with its workflow; "" where the
--   workflow's semantics are not this library's. Reads only.
return function(keys, args)
  local tx, found = transaction.open(keys), {}
  for at = 1, #args, 3 do
    local slot = tonumber(args[at])
    local workflow = tx.workflows[slot] or transaction.workflow(tx, slot, {})
    if workflow.h and workflow.h.semantics ~= states.VERSION then
      found[#found + 1] = { "", "0", "" }
    elseif workflow.h then
      found[#found + 1] = { waits.fate(workflow, args[at + 1], tonumber(args[at + 2])) }
    else
      found[#found + 1] = { "n", "0", "" }
    end
  end
  return found
end
