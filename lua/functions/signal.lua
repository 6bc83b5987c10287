-- signal: records a signal at its topic, and matches the topic's kept signals with its waits.
--
-- Writes: the topic, timers, statistics; to the partition's log evidence of a late or ambiguous signal, and
--   of a duplicate that no workflow has consumed. Evidence of a duplicate of a
--   consumed signal is left to the client, which records it with that workflow.
local function repeated(tx, item, signal)
  if signal.call == item.call then
    return "accepted"
  end
  if signal.status == "k" then
    if tx.again then
      evidence.refused_before(tx, {}, item)
    end
    evidence.duplicate(tx, {}, item)
  end
  return "duplicate"
end

return function(tx, signal, correlation_key, dedupe_key, call_id, has_payload, payload, note, actor)
  local t = topic.open(tx, signal, correlation_key)
  local item = { action = "deliver_signal", scope = "signal", step = "", call = call_id, note = note }
  local number, outcome = command("HGET", t.hash, "d" .. dedupe_key), "accepted"
  local found
  if number then
    found = topic.signal(t, tonumber(number))
    outcome = repeated(tx, item, found)
  else
    found = topic.add(tx, t, call_id, actor, dedupe_key, has_payload and payload or nil)
    topic.judge(tx, t)
  end
  topic.commit(tx, t)
  return { outcome, topic.answer(t, found), topic.handed(t) }
end
