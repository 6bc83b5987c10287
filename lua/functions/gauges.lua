-- gauges: sets gauges of the statistics that are not what the workflows add up to.
--
-- Keys: the partition's (keyslots).
-- Arguments: for each its field, what was found there, and what is right.
-- Reply: which of them were set, counted from 1: those that still were what was found.
-- Bound: the gauges, of which there is one for each state of steps, workflows and callbacks.
-- Writes: statistics.
return function(keys, args)
  local tx, set = transaction.open(keys), {}
  for at = 1, #args, 3 do
    local field, found, right = args[at], args[at + 1], args[at + 2]
    local stands = tonumber(command("HGET", keys[keyslots.STATS], field) or nil) or 0
    if stands == tonumber(found) then
      transaction.count(tx, field, right - found)
      transaction.count(tx, "rr|gauge_wrong", 1)
      set[#set + 1] = (at + 2) / 3
    end
  end
  flush.commit(tx)
  return set
end
