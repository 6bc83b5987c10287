-- signal: records a signal at its topic, and judges what the topic keeps.
--
-- Keys: the partition's (keyslots), then the topic's hash and sorted set (topic.lua).
-- Arguments: the publishing verb, "1" when sent before, the signal's name, the correlation key (quoted),
--   the dedupe key (quoted), the call id, "1" when a payload follows, the payload, the client's note, who
--   delivers it (quoted) or "".
-- Reply: {"accepted"|"duplicate", signal, hand-off}: the signal as it is now {number, status, workflow,
--   step, stamp, dedupe key, actor, payload}, and what the caller has to carry out {number, workflow, step,
--   n, payload, actor}, or nil.
-- Writes: the topic, timers, statistics; to the partition's log evidence of a late or ambiguous signal, and
--   of a duplicate that no workflow has consumed. A duplicate of a consumed one is the client's to leave
--   with that workflow.
local function repeated(tx, item, signal, again)
  if signal.call == item.call then
    return "accepted"
  end
  if signal.status == "k" then
    if again then
      evidence.refused_before(tx, {}, item)
    end
    evidence.duplicate(tx, {}, item)
  end
  return "duplicate"
end

return function(keys, args)
  local tx = transaction.open(keys)
  local t = topic.open(tx, args[3], args[4])
  local item = { action = "deliver_signal", scope = "signal", step = "", call = args[6], note = args[9] }
  local number, kind = command("HGET", t.hash, "d" .. args[5]), "accepted"
  local signal
  if number then
    signal = topic.signal(t, tonumber(number))
    kind = repeated(tx, item, signal, args[2] == "1")
  else
    signal = topic.add(tx, t, item.call, args[10], args[5], args[7] == "1" and args[8] or nil)
    topic.judge(tx, t)
  end
  topic.commit(tx, t, args[1])
  return { kind, topic.answer(t, signal), topic.handed(t) }
end
