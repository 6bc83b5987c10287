-- register_dispatcher: whoever is going to dispatch callbacks tells that there is such a one, before it claims any. From
-- then on a callback that is still to be delivered holds its workflow's removal back (prune.lua).
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
