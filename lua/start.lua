-- start: gives reserved steps to a worker.
--
-- Keys: the partition's, then each workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, the claim's token, the worker (quoted), the lease
--   in milliseconds; then for each entry: slot, step, "class|order".
-- Reply: {claims, flags}. A claim is false for a step that is not to be had any more, else as in
--   handout.lua; a flag, by slot, is "1" when the topics of waits are to be told.
-- Writes: records, counts, ready queue, reserved entries, timers, statistics, evidence of waits that have
--   expired.
local FIRST_ENTRY, WIDTH = 6, 3

return function(keys, args)
  local call_, claimer = call.open(keys), handout.claimer(args, 3)
  local entries, names = {}, {}
  for at = FIRST_ENTRY, #args, WIDTH do
    local slot, step = tonumber(args[at]), args[at + 1]
    entries[#entries + 1] = { slot = slot, step = step, place = args[at + 2] }
    names[slot] = names[slot] or {}
    table.insert(names[slot], step)
  end
  for slot = 1, #names do
    waits.expire(call_, call.flow(call_, slot, names[slot]), {})
  end
  local replies, flags = {}, {}
  for i = 1, #entries do
    local entry = entries[i]
    entry.flow = call_.flows[entry.slot]
    replies[i] = handout.start(call_, entry.flow, entry, claimer, args[2] == "1") and entry
  end
  flush.commit(call_, args[1])
  for slot = 1, #names do
    flags[slot] = call_.flows[slot].h and waits.flag(call_.flows[slot]) or ""
  end
  return { handout.tell(replies, handout.room()), flags }
end
