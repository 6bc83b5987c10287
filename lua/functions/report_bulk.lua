-- report_bulk: counts the outcomes of the workflows that a bulk session has in hand, once; after the last of them the
-- session is done.
--
-- Bound: 50 workflows.
-- Writes: the session, its refusals (the first 1,000), the listing at the end.
local REFUSALS_KEPT = 1000

return function(keys, number, counts, refusals)
  local tx, session = transaction.open(keys), bulk.read(keys)
  if not session or session.done or not session.hand or tonumber(session.n) ~= number then
    return false
  end
  local room = REFUSALS_KEPT - command("LLEN", keys[bulk.REFUSALS])
  for i = 1, min(room, #refusals) do
    command("RPUSH", keys[bulk.REFUSALS], refusals[i])
  end
  for i = 1, #counts do
    command("HINCRBY", keys[bulk.SESSION], "c|" .. counts[i].outcome, integer.text(counts[i].count))
  end
  command("HDEL", keys[bulk.SESSION], "hand")
  if session.last == "1" or session.stopped then
    bulk.finish(tx, session)
  end
  return "1"
end
