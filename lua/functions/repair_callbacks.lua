-- repair_callbacks: compares a workflow's callbacks, from one on, with the outbox, and mends that.
--
-- Bound: one chunk (200) of callbacks.
-- Writes: outbox, statistics. Where all is right it writes nothing.
return function(tx, first)
  local workflow = transaction.workflow(tx, 1, {})
  if not workflow.h or workflow.h.semantics ~= states.VERSION then
    return false
  end
  local repairs, before = {}, workflow.counts
  local written, open, dead = outbox.check(tx, workflow, first, repairs)
  repair.finish(tx, repairs)
  return { repairs, before, workflow.counts, written, open, dead }
end
