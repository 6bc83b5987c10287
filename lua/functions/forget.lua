-- forget: has a topic forget the waits of a workflow that was removed, and the signals these consumed.
--
-- Keys: the partition's (keyslots), then the topic's hash and sorted set (topic.lua).
-- Arguments: the publishing verb, "1" when sent before, the signal's name, the correlation key (quoted),
--   the workflow; then for each wait its step, and the number of the signal that it consumed, or "".
-- Reply: hand-off, as in signal.
-- Writes: the topic, which goes when it then holds nothing; timers, statistics.
local FIRST_WAIT = 6

return function(keys, args)
  local tx = transaction.open(keys)
  local t, workflow_id = topic.open(tx, args[3], args[4]), args[5]
  for at = FIRST_WAIT, #args, 2 do
    topic.forget(t, workflow_id, args[at])
    if args[at + 1] ~= "" then
      topic.remove(t, tonumber(args[at + 1]), workflow_id)
    end
  end
  topic.judge(tx, t)
  topic.commit(tx, t, args[1])
  return topic.handed(t)
end
