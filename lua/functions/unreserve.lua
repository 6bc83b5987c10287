-- unreserve: frees the insert key of a workflow that was removed.
--
-- Keys: the partition's (keyslots).
-- Arguments: the key's digest, the workflow's id.
-- Reply: nil. Writes: the key's reservation, if it is still that workflow's.
-- Bound: one reservation.
return function(keys, args)
  local held = command("HGET", keys[keyslots.KEYS], args[1])
  if held and match(held, "^[^ ]+") == args[2] then
    command("HDEL", keys[keyslots.KEYS], args[1])
  end
end
