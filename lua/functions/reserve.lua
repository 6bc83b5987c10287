-- reserve: ties an insert key to a workflow, before that workflow is inserted.
--
-- Keys: the partition's (keyslots).
-- Arguments: the key's digest, the workflow's id, the definition's digest, and the reservation to be
--   replaced ("id digest milliseconds"), or "".
-- Reply: {the reservation as it stands after the call, "1" when it is older than an insert may take}.
-- Bound: one reservation.
-- A reservation whose workflow was never made visible can be taken over once it is old.
return function(keys, args)
  local now = transaction.open(keys).ms
  local held = command("HGET", keys[keyslots.KEYS], args[1])
  if held and held ~= args[4] then
    local made = tonumber(match(held, " (%d+)$"))
    return { held, made + states.INSERT_MS < now and "1" or "" }
  end
  held = args[2] .. " " .. args[3] .. " " .. transaction.number(now)
  command("HSET", keys[keyslots.KEYS], args[1], held)
  return { held, "" }
end
