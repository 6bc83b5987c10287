-- forget: removes from a topic the waits of a workflow that was removed, and the signals that these consumed.
--
-- Writes: the topic, which is removed when nothing is left in it; timers, statistics.
return function(tx, signal, correlation_key, workflow_id, forgotten)
  local t = topic.open(tx, signal, correlation_key)
  for i = 1, #forgotten do
    topic.forget(t, workflow_id, forgotten[i].step)
    if forgotten[i].consumed then
      topic.remove(t, forgotten[i].consumed, workflow_id)
    end
  end
  topic.judge(tx, t)
  topic.commit(tx, t)
  return topic.handed(t)
end
