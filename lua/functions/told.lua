-- told: notes that the topics of waits were told what became of them.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before; then for each wait: step, number, what was told
--   ("w" waiting, "x" expired, "r" resolved, "g" over; "" when there was nothing to tell).
-- Reply: {the last of these waits as it is now or nil, static, counts, context, flag}; {} where there is
--   no workflow that this library may move.
-- Writes: waits, the workflow's agenda, timers.
return function(keys, args)
  local tx = transaction.open(keys)
  local workflow = transaction.workflow(tx, 1, {})
  if not workflow.h or workflow.h.semantics ~= states.VERSION then
    return {}
  end
  local last
  for at = 3, #args, 3 do
    local name, n = args[at], tonumber(args[at + 1])
    waits.tell(tx, workflow, name, n, args[at + 2])
    last = waits.numbered(workflow, name, n)
  end
  flush.commit(tx, args[1])
  return { last and waits.write(last) or false, unpack(flush.header(workflow)) }
end
