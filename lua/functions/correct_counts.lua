-- correct_counts: corrects a workflow's counts.
--
-- The right counts are a sum over all chunks of steps, more than one call reads. So they are set only if the header still
-- has the counts that it had when the summing began.
-- Writes: counts, index, statistics.
return function(tx, before, callbacks, open, dead, skipped, superseded, steps)
  local workflow = transaction.workflow(tx, 1, {})
  if not workflow.h or not states.IMPLEMENTED[workflow.h.semantics] then
    return {}
  end
  if branching.counts(workflow) ~= before then
    return {}
  end
  if workflow.b then
    workflow.b.skipped, workflow.b.superseded = skipped, superseded
  end
  local h, repairs = workflow.h, {}
  for i = 1, #states.CODES do
    h[states.CODES[i]] = steps[i]
  end
  h.callbacks, h.open, h.dead = max(h.callbacks, callbacks), open, dead
  -- The fleet's gauges were right: each transition updates them apart from the header.
  workflow.was = states.workflow_state(h)
  workflow.moved = true
  local ended = states.WORKFLOW_CODE[workflow.was]
  workflow.cause = ended and states.workflow_cause(h)
  if not ended or h.finished == "" then
    h.finished = ended and workflow.since or ""
  end
  repair.check_index(tx, workflow, repairs)
  repairs[#repairs + 1] = { "counts_wrong", "" }
  repair.finish(tx, repairs)
  return repairs
end
