-- ack_wait_notices: records in waits which outcomes their topics have been notified of.
--
-- Writes: waits, the workflow's pending notices, timers.
return function(tx, acked)
  local workflow = transaction.workflow(tx, 1, {})
  if not workflow.h or not states.IMPLEMENTED[workflow.h.semantics] then
    return { false, false }
  end
  local last
  for i = 1, #acked do
    local wait = acked[i]
    waits.ack(tx, workflow, wait.step, wait.n, wait.outcome)
    last = waits.numbered(workflow, wait.step, wait.n)
  end
  flush.commit(tx)
  return { last and codec.write_wait(last) or false, flush.header(workflow) }
end
