-- release_key: frees the insert key of a workflow that was removed.
--
-- Bound: one reservation.
-- Writes: the key's reservation, if it is still that workflow's.
return function(keys, digest, workflow_id)
  local held = command("HGET", keys[keyslots.KEYS], digest)
  if held and codec.reservation_workflow(held) == workflow_id then
    command("HDEL", keys[keyslots.KEYS], digest)
  end
end
