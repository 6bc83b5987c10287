-- start_steps: gives reserved steps to a worker.
--
-- Reply: a claim is false for a step that is not to be had any more, else as in dispatch.lua; and for each
--   workflow whether the topics of its waits are to be told.
-- Bound: 64 entries.
-- Writes: records, counts, ready queue, reserved entries, timers, statistics, evidence of waits that have
--   expired. Sent twice, it tells its claims once more.
return function(tx, token, worker, lease_ms, entries)
  local claimer = { token = token, worker = worker, lease_ms = lease_ms }
  local names = transaction.steps_by_slot({}, entries)
  for slot = 1, #names do
    expiry.expire(tx, transaction.workflow(tx, slot, names[slot]), {})
  end
  local started, has_notices = dispatch.start_all(tx, entries, claimer), {}
  flush.commit(tx)
  for slot = 1, #names do
    has_notices[slot] = tx.workflows[slot].h and waits.flag(tx.workflows[slot]) or ""
  end
  return { dispatch.tell(started, dispatch.room()), has_notices }
end
