-- dispatch_steps: gives reserved steps to a dispatcher, each under a ticket.
--
-- Reply: as of start_steps; a step's input is included only where results or outcomes may keep it from running.
-- Bound: 64 entries.
-- Writes: records, counts, ready queue, reserved entries, timers, statistics, evidence of waits that have
--   expired. Sent again, it returns the same tickets.
return function(tx, token, dispatcher, hold_ms, entries)
  return leases.start_reserved(tx, { token = token .. ".", worker = dispatcher, lease_ms = hold_ms }, entries, true)
end
