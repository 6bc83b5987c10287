-- stage_fragment: stores pieces of steps that are to be appended, which a command then brings in (growth.lua).
--
-- Bound: the pieces of one call: 256 KiB, or one larger piece alone.
-- Writes: the payload hash, the list of what is staged.
return function(keys, token, first, pieces)
  local tx = transaction.open(keys)
  local workflow = transaction.workflow(tx, 1, {})
  if not workflow.h then
    return false
  end
  local fields = { "+" .. token, integer.text(first + #pieces - 1) }
  for i = 1, #pieces do
    fields[2 * i + 1], fields[2 * i + 2] = growth.piece(token, first + i - 1), pieces[i]
  end
  staging.give_up_later(tx, workflow, token)
  command("HSET", workflow.p, unpack(fields))
  return true
end
