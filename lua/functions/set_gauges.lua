-- set_gauges: corrects gauges that differ from what the workflows add up to.
--
-- Bound: the gauges, of which there is one for each state of steps, workflows and callbacks.
-- Writes: statistics.
return function(keys, gauges)
  local tx, set = transaction.open(keys), {}
  for i = 1, #gauges do
    local gauge = gauges[i]
    local present = tonumber(command("HGET", keys[keyslots.STATS], gauge.field) or nil) or 0
    if present == gauge.found then
      transaction.count(tx, gauge.field, gauge.right - gauge.found)
      transaction.count(tx, "rr|gauge_wrong", 1)
      set[#set + 1] = i
    end
  end
  flush.commit(tx)
  return set
end
