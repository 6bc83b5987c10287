-- dispatch_steps: gives reserved steps to a dispatcher, each under a ticket.
--
-- Reply: as of start_steps; what a step is given is told only where results or outcomes may keep it from running.
-- Bound: 64 entries.
-- Writes: records, counts, ready queue, reserved entries, timers, statistics, evidence of waits that have
--   expired. Sent twice, it tells its tickets once more.
return function(tx, token, dispatcher, hold_ms, entries)
  return leases.start_reserved(tx, { token = token .. ".", worker = dispatcher, lease_ms = hold_ms }, entries, true)
end
