-- wake: hands a signal to the wait that its topic has chosen, and tells what became of that.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, the step, the number of its wait, the signal's id,
--   its payload or "", the client's note.
-- Reply: {what became of the wait, its stamp}: "r" resolved by this very signal, "x" expired with its step
--   still expired, "g" otherwise over, also by a cancel request that has not come to the step yet; "" when
--   the workflow's semantics are not this library's.
-- Writes: the step and its wait, counts, evidence, ready queue, timers, index, statistics.
-- Publishes: step_available; workflow_terminal, when deadlines have passed.
local NEVER = "0"

local function resolve(tx, workflow, item, step, signal, payload)
  local wait = waits.resolve(tx, workflow, item.step, signal, payload)
  evidence.accept(tx, workflow, item, "accepted", "", format("wait %d has consumed signal %s", wait.n, signal))
  transitions.enqueue(tx, workflow, item.step, step)
  step.claim = claims.UNCOUNTED
end

local function fate(tx, workflow, item, wait, signal, payload)
  if wait.status == "w" and workflow.h.cancel ~= "" then
    sweep.cancel(tx, workflow, item.step)
    return "g"
  end
  if wait.status == "w" then
    resolve(tx, workflow, item, transaction.step(workflow, item.step), signal, payload)
    return "r"
  end
  if wait.status == "r" then
    return wait.signal == signal and "r" or "g"
  end
  return wait.status == "x" and "x" or "g"
end

return function(keys, args)
  local tx = transaction.open(keys)
  local item = { action = "deliver_signal", scope = "step", step = args[3], call = "", note = args[7] }
  local workflow = transaction.workflow(tx, 1, { item.step })
  if not workflow.h then
    return { "g", NEVER }
  end
  if workflow.h.semantics ~= states.VERSION then
    return { "", NEVER }
  end
  expiry.expire(tx, workflow, { item.step })
  local wait = waits.numbered(workflow, item.step, tonumber(args[4]))
  local answer = wait and fate(tx, workflow, item, wait, args[5], args[6]) or "g"
  flush.commit(tx, args[1])
  return { answer, wait and wait.stamp or NEVER }
end
