-- repair_callbacks: compares a workflow's callbacks, from one on, with the outbox, and repairs the outbox.
--
-- Bound: one chunk (200) of callbacks.
-- Writes: outbox, statistics. Where all is right it writes nothing.
return function(tx, first)
  local workflow = transaction.workflow(tx, 1, {})
  if not workflow.h or not states.IMPLEMENTED[workflow.h.semantics] then
    return false
  end
  local repairs, before = {}, branching.counts(workflow)
  local written, open, dead = outbox.check(tx, workflow, first, repairs)
  repair.finish(tx, repairs)
  return { repairs, before, branching.counts(workflow), written, open, dead }
end
