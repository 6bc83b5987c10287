-- select_bulk: puts the next workflows of a bulk session in hand.
--
-- Bound: 50 workflows, with the names of steps.
-- Writes: the session.
return function(keys, runner, number, cursor, last, count, hand)
  local session = bulk.read(keys)
  if not session or session.done then
    return false
  end
  local stands = tonumber(session.n or "0")
  if session.runner ~= runner or session.hand or number ~= stands + 1 then
    return session.hand and number == stands and session.runner == runner and "1" or false
  end
  local selected = tonumber(command("HGET", keys[bulk.SESSION], "selected") or "0") + count
  command(
    "HSET", keys[bulk.SESSION], "n", integer.text(number), "cursor", cursor, "hand", hand, "last", last and "1" or "",
    "selected", integer.text(selected)
  )
  return "1"
end
