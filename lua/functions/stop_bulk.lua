-- stop_bulk: ends a bulk session before its end. The workflows in hand are still carried out and counted.
--
-- Writes: the session, the listing.
return function(keys, note)
  local tx, session = transaction.open(keys), bulk.read(keys)
  if session and not session.done then
    if not session.stopped then
      command("HSET", keys[bulk.SESSION], "stopped", note)
      session.stopped = note
    end
    bulk.end_if_over(tx, session)
  end
  return session and "1" or false
end
