-- stop_bulk: ends a bulk session before its end. The workflows in hand are still carried out and counted.
--
-- Writes: the session, the listing.
return function(keys, note)
  local tx, session = transaction.open(keys), bulk.read(keys)
  if session and not session.done and not session.stopped then
    command("HSET", keys[bulk.SESSION], "stopped", note)
    if not session.hand then
      bulk.finish(tx, session)
    end
  end
  return session and "1" or false
end
