-- extend_leases: extends leases; one that is lost changes nothing.
--
-- Bound: 64 claims.
-- Writes: records, timers, statistics, evidence of waits that have expired. Sent again, it extends
--   them from that time on.
-- Publishes: step_available, workflow_terminal, where waits have expired.
return function(tx, lease_ms, held)
  leases.open(tx, held)
  local replies = {}
  for i = 1, #held do
    local workflow, step = leases.current(tx, held[i])
    if step then
      claims.extend(tx, workflow, held[i].step, step, lease_ms)
      local asked_to_end = workflow.h.cancel ~= "" and not branching.outlasts(workflow, step)
      replies[i] = { integer.text(claims.due(workflow, step)), asked_to_end and "1" or "" }
    else
      replies[i] = { false, "" }
    end
  end
  flush.commit(tx)
  return replies
end
