-- sync: tells a topic what became of a wait, and judges what the topic keeps.
--
-- Keys: the partition's (keyslots), then the topic's hash and sorted set (topic.lua).
-- Arguments: the publishing verb, "1" when sent before, the signal's name, the correlation key (quoted),
--   the wait's workflow, step, number and stamp, what became of it ("w" waiting, "x" expired, "r"
--   resolved, "g" over, "n" gone with its workflow; "" to tell nothing), the number of the signal that
--   resolved it or "", the number of a signal that is asked after or "", and for a repair "1", or "u" when
--   the workflow's record says that the topic was not told. A repair has a wait stand that the topic knew to
--   be over; or, where a signal has resolved it, hands that over again.
-- Reply: {the kind of repair that this was or "", the signal asked after or nil, hand-off, how many signals
--   have left because nobody took them in time}, the second and the third as in signal.
-- Writes: the topic, timers, statistics; evidence of late or ambiguous signals to the partition's log.
--   Nothing when the topic knew, and has nothing to hand over.
local function tell(tx, t, args)
  local workflow_id, step, n, stamp, state = args[5], args[6], args[7], args[8], args[9]
  if args[10] ~= "" then
    topic.consume(tx, t, tonumber(args[10]), workflow_id, step, n)
    stamp = args[10] -- by which it is found again, should its workflow fall back
  end
  if state ~= "w" then
    topic.settle(t, workflow_id, step, n)
  end
  if state == "n" then
    return topic.forget(t, workflow_id, step)
  end
  return topic.tell(t, state, workflow_id, step, n, stamp, state == "w" and args[12] ~= "")
end

-- What somebody has left unfinished, and this call finds.
local function unfinished(args, news, outstanding)
  if outstanding then
    return "handoff_unfinished"
  end
  if not news and args[12] ~= "u" then
    return ""
  end
  return args[9] == "w" and "registration_unfinished" or "handoff_unfinished"
end

return function(keys, args)
  local tx = transaction.open(keys)
  local t = topic.open(tx, args[3], args[4])
  local again = args[9] == "w" and args[12] ~= "" and topic.taken(t, args[5], args[6], args[7])
  local outstanding, news = t.handed or again, args[9] ~= "" and not again and tell(tx, t, args)
  topic.judge(tx, t)
  local mended = args[12] ~= "" and unfinished(args, news, outstanding) or ""
  if mended ~= "" then
    transaction.count(tx, "rr|" .. mended, 1)
  end
  topic.commit(tx, t, args[1])
  local asked = args[11] ~= "" and topic.signal(t, tonumber(args[11]))
  return { mended, asked and topic.answer(t, asked), again or topic.handed(t), t.expired }
end
