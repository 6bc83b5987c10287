-- begin_bulk: makes a bulk session, unless it was made before.
--
-- Writes: the session, the listing of sessions.
return function(keys, text)
  local tx = transaction.open(keys)
  if not bulk.read(keys) then
    local created = integer.text(tx.ms)
    command("HSET", keys[bulk.SESSION], "s", text, "created", created)
    bulk.list(keys, { created = created })
  end
end
