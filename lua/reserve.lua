-- reserve: ties an insert key to a workflow, before that workflow is inserted.
--
-- Keys: the partition's (keyslots).
-- Arguments: the key's digest, the workflow's id, the definition's digest, and the reservation to be
--   replaced ("id digest"), or "".
-- Reply: "id digest" as it stands after the call: this one, or that of an earlier insert.
-- A reservation whose workflow was never made visible can be taken over, by naming it.
return function(keys, args)
  local mine = args[2] .. " " .. args[3]
  local held = command("HGET", keys[keyslots.KEYS], args[1])
  if held and held ~= args[4] then
    return held
  end
  command("HSET", keys[keyslots.KEYS], args[1], mine)
  return mine
end
