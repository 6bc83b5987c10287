-- update_topic: tells a topic what became of a wait, and judges what the topic keeps.
--
-- Writes: the topic, timers, statistics; evidence of late or ambiguous signals to the partition's log. Nothing when
--   the topic knew, and has nothing to hand over.

local function tell(tx, t, wait, outcome, consumed, stands)
  local workflow_id, step, n, stamp = wait.workflow_id, wait.step, wait.n, wait.stamp
  if consumed then
    topic.consume(tx, t, consumed, workflow_id, step, n)
    stamp = integer.text(consumed) -- by which it is found again, should its workflow fall back
  end
  if outcome ~= "w" then
    topic.settle(t, workflow_id, step, n)
  end
  if outcome == "n" then
    return topic.forget(t, workflow_id, step)
  end
  return topic.tell(t, outcome, workflow_id, step, n, stamp, stands)
end

-- What somebody has left unfinished, and this call finds.
local function unfinished(outcome, unrecorded, news, outstanding)
  if outstanding then
    return "handoff_unfinished"
  end
  if not news and not unrecorded then
    return ""
  end
  return outcome == "w" and "registration_unfinished" or "handoff_unfinished"
end

return function(tx, signal, correlation_key, workflow_id, step, n, stamp, outcome, consumed, asked, is_repair, unrecorded)
  local t = topic.open(tx, signal, correlation_key)
  local wait = { workflow_id = workflow_id, step = step, n = n, stamp = stamp }
  local stands = outcome == "w" and is_repair
  local again = stands and topic.taken(t, workflow_id, step, n)
  local outstanding, news = t.handed or again, not again and tell(tx, t, wait, outcome, consumed, stands)
  topic.judge(tx, t)
  local found = is_repair and unfinished(outcome, unrecorded, news, outstanding) or ""
  if found ~= "" then
    transaction.count(tx, "rr|" .. found, 1)
  end
  topic.commit(tx, t)
  local asked_after = asked and topic.signal(t, asked)
  return { found, asked_after and topic.answer(t, asked_after) or false, again or topic.handed(t) }
end
