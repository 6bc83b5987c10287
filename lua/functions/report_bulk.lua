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
  local refused = tonumber(session.refused or "0")
  local more = min(REFUSALS_KEPT - refused, #refusals)
  local uncounted = command("LLEN", keys[bulk.REFUSALS]) - refused
  if uncounted > 0 then -- of a report that was cut off
    command("LTRIM", keys[bulk.REFUSALS], "0", integer.text(-1 - uncounted))
  end
  for i = 1, more do
    command("RPUSH", keys[bulk.REFUSALS], refusals[i])
  end
  -- All with one command: a call that is cut off has counted all of them, or none.
  local fields = { "reported", session.n, "refused", integer.text(refused + more) }
  for i = 1, #counts do
    local field = "c|" .. counts[i].outcome
    local before = tonumber(command("HGET", keys[bulk.SESSION], field) or "0")
    fields[#fields + 1], fields[#fields + 2] = field, integer.text(before + counts[i].count)
  end
  command("HSET", keys[bulk.SESSION], unpack(fields))
  session.hand = nil
  bulk.end_if_over(tx, session)
  return "1"
end
