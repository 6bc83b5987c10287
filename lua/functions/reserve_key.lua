-- reserve_key: ties an insert key to a workflow, before that workflow is inserted.
--
-- Bound: one reservation.
-- Writes: the reservation, unless the key is reserved already, other than by the workflow to be replaced. A reservation
--   whose workflow was never made visible can be taken over once it is old.
return function(keys, digest, workflow_id, definition, replaces)
  local now = transaction.open(keys).ms
  local held = command("HGET", keys[keyslots.KEYS], digest)
  if held and held ~= replaces then
    return { held, codec.read_reservation(held).made + states.INSERT_MS < now and "1" or "" }
  end
  held = codec.write_reservation({ workflow = workflow_id, definition = definition, made = now })
  command("HSET", keys[keyslots.KEYS], digest, held)
  return { held, "" }
end
