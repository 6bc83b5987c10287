-- start_steps: gives reserved steps to a worker.
--
-- Reply: the claims, each as in dispatch.lua, or false for a step that is no longer available; and for each workflow
--   whether the topics of its waits are to be notified.
-- Bound: 64 entries.
-- Writes: records, counts, ready queue, reserved entries, timers, statistics, evidence of waits that have
--   expired. Sent again, it returns the same claims.
return function(tx, token, worker, lease_ms, entries)
  return leases.start_reserved(tx, { token = token, worker = worker, lease_ms = lease_ms }, entries)
end
