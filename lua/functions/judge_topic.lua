-- judge_topic: matches a topic's kept signals with its waits: hands one over, and drops those that were kept too
-- long.
--
-- Writes: as update_topic.
return function(tx, signal, correlation_key)
  local t = topic.open(tx, signal, correlation_key)
  topic.judge(tx, t)
  topic.commit(tx, t)
  return { topic.handed(t), t.expired }
end
