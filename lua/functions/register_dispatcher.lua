-- register_dispatcher: records that the namespace has a dispatcher of callbacks, which calls this before it claims any.
-- From then on an undelivered callback holds back the removal of its workflow (prune.lua).
--
-- Bound: two numbers.
-- Writes: the record's field "dispatcher", when the latest was seen (ms), now and then.
return function(keys)
  local found, now = transaction.namespace(keys[1]), transaction.open(keys).ms
  local seen = tonumber(command("HGET", keys[1], "dispatcher") or nil)
  if found[1] and not (seen and seen <= now and now < seen + states.DISPATCHER_NOTED_MS) then
    command("HSET", keys[1], "dispatcher", integer.text(now))
  end
  return found
end
