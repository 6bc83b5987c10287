-- dispatched: whether anybody dispatches callbacks in the namespace (dispatcher.lua).
--
-- Keys: the meta record.
-- Reply: how many milliseconds ago a dispatcher was last seen, nil when none ever was. Reads only.
return function(keys)
  local seen = tonumber(command("HGET", keys[1], "dispatcher") or nil)
  return seen and transaction.number(max(transaction.open(keys).ms - seen, 0)) or false
end
