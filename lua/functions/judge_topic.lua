-- judge_topic: judges what a topic keeps: hands a signal over, and has those leave that nobody took in time.
--
-- Writes: as update_topic.
return function(tx, signal, correlation_key)
  local t = topic.open(tx, signal, correlation_key)
  topic.judge(tx, t)
  topic.commit(tx, t)
  return { topic.handed(t), t.expired }
end
