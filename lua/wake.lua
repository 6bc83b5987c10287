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

local function resolve(call_, flow, item, step, signal, payload)
  local wait = waits.resolve(call_, flow, item.step, signal, payload)
  evidence.accept(call_, flow, item, "accepted", "", format("wait %d has consumed signal %s", wait.n, signal))
  moves.enqueue(call_, flow, item.step, step)
  step.claim = claims.UNCOUNTED
end

local function fate(call_, flow, item, wait, signal, payload)
  if wait.status == "w" and flow.h.cancel ~= "" then
    sweep.cancel(call_, flow, item.step)
    return "g"
  end
  if wait.status == "w" then
    resolve(call_, flow, item, call.step(flow, item.step), signal, payload)
    return "r"
  end
  if wait.status == "r" then
    return wait.signal == signal and "r" or "g"
  end
  return wait.status == "x" and "x" or "g"
end

return function(keys, args)
  local call_ = call.open(keys)
  local item = { action = "deliver_signal", scope = "step", step = args[3], call = "", note = args[7] }
  local flow = call.flow(call_, 1, { item.step })
  if not flow.h then
    return { "g", NEVER }
  end
  if flow.h.semantics ~= states.VERSION then
    return { "", NEVER }
  end
  waits.expire(call_, flow, { item.step })
  local wait = waits.numbered(flow, item.step, tonumber(args[4]))
  local answer = wait and fate(call_, flow, item, wait, args[5], args[6]) or "g"
  flush.commit(call_, args[1])
  return { answer, wait and wait.stamp or NEVER }
end
