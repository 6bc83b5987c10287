-- update_topic: records in a topic that a wait has begun or how it ended, and matches the topic's kept signals with its
--   waits.
--
-- Writes: the topic, timers, statistics; evidence of late or ambiguous signals to the partition's log. Nothing when
--   the topic knew that, and has nothing to hand over.

local function set_wait(tx, t, wait, outcome, consumed, is_open)
  local workflow_id, step, n, stamp = wait.workflow_id, wait.step, wait.n, wait.stamp
  if consumed then
    topic.consume(tx, t, consumed, workflow_id, step, n)
    stamp = integer.text(consumed) -- by which it is found again, should a failover take its workflow back
  end
  if outcome ~= "w" then
    topic.settle(t, workflow_id, step, n)
  end
  if outcome == "n" then
    return topic.forget(t, workflow_id, step)
  end
  return topic.set_wait(t, outcome, workflow_id, step, n, stamp, is_open)
end

-- The repair that this call amounts to, as somebody had left it unfinished; "" for none.
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
  local is_open = outcome == "w" and is_repair
  local again = is_open and topic.taken(t, workflow_id, step, n)
  local outstanding, news = t.handed or again, not again and set_wait(tx, t, wait, outcome, consumed, is_open)
  topic.judge(tx, t)
  local found = is_repair and unfinished(outcome, unrecorded, news, outstanding) or ""
  if found ~= "" then
    transaction.count(tx, "rr|" .. found, 1)
  end
  topic.commit(tx, t)
  local asked_after = asked and topic.signal(t, asked)
  return { found, asked_after and topic.answer(t, asked_after) or false, again or topic.handed(t) }
end
