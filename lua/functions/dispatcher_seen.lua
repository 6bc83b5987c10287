-- dispatcher_seen: whether the namespace has, or had, a dispatcher of callbacks (register_dispatcher.lua).
return function(keys)
  local seen = tonumber(command("HGET", keys[1], "dispatcher") or nil)
  return seen and integer.text(max(transaction.open(keys).ms - seen, 0)) or false
end
