-- start: gives reserved steps to a worker.
--
-- Keys: the partition's, then each workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, the claim's token, the worker (quoted), the lease
--   in milliseconds; then for each entry: slot, step, "class|order".
-- Reply: {claims, flags}. A claim is false for a step that is not to be had any more, else as in
--   dispatch.lua; a flag, by slot, is "1" when the topics of waits are to be told.
-- Writes: records, counts, ready queue, reserved entries, timers, statistics, evidence of waits that have
--   expired.
local FIRST_ENTRY, WIDTH = 6, 3

return function(keys, args)
  local tx, claimer = transaction.open(keys), dispatch.claimer(args, 3)
  local entries, names = {}, {}
  for at = FIRST_ENTRY, #args, WIDTH do
    local slot, step = tonumber(args[at]), args[at + 1]
    entries[#entries + 1] = { slot = slot, step = step, place = args[at + 2] }
    names[slot] = names[slot] or {}
    table.insert(names[slot], step)
  end
  for slot = 1, #names do
    expiry.expire(tx, transaction.workflow(tx, slot, names[slot]), {})
  end
  local replies, flags = {}, {}
  for i = 1, #entries do
    local entry = entries[i]
    entry.workflow = tx.workflows[entry.slot]
    replies[i] = dispatch.start(tx, entry.workflow, entry, claimer, args[2] == "1") and entry
  end
  flush.commit(tx, args[1])
  for slot = 1, #names do
    flags[slot] = tx.workflows[slot].h and waits.flag(tx.workflows[slot]) or ""
  end
  return { dispatch.tell(replies, dispatch.room()), flags }
end
