-- start_steps: gives reserved steps to a worker.
--
-- Reply: a claim is false for a step that is not to be had any more, else as in dispatch.lua; and for each
--   workflow whether the topics of its waits are to be told.
-- Bound: 64 entries.
-- Writes: records, counts, ready queue, reserved entries, timers, statistics, evidence of waits that have
--   expired. Sent twice, it tells its claims once more.
return function(tx, token, worker, lease_ms, entries)
  return leases.start_reserved(tx, { token = token, worker = worker, lease_ms = lease_ms }, entries)
end
