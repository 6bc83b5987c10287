-- dispatcher_seen: whether anybody dispatches callbacks in the namespace (register_dispatcher.lua).
return function(keys)
  local seen = tonumber(command("HGET", keys[1], "dispatcher") or nil)
  return seen and integer.text(max(transaction.open(keys).ms - seen, 0)) or false
end
