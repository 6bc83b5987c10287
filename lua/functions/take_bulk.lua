-- take_bulk: gives a runner the lease of a bulk session, if nobody else has it.
--
-- Writes: the session; the listing, where it is wrong.
return function(keys, runner, lease_ms)
  local tx, session = transaction.open(keys), bulk.read(keys)
  if not session then
    return { "missing" }
  end
  bulk.end_if_over(tx, session)
  bulk.list(keys, session)
  if session.done then
    return { "done" }
  end
  local left = tonumber(session["until"] or "0") - tx.ms
  if session.runner ~= runner and left > 0 and left <= lease_ms then
    return { "held" }
  end
  command("HSET", keys[bulk.SESSION], "runner", runner, "until", integer.text(tx.ms + lease_ms))
  return { "taken", tonumber(session.n or "0"), session.cursor or "", session.last or "", session.hand or false, session.created }
end
