-- await: puts a step into a wait for a signal, or for the end of a child workflow: then the signal is empty, the key is
-- the child's id, and the step must have been claimed.
--
-- Writes: the step and its wait, counts, evidence, ready queue, timers, index, statistics. The client
--   then updates the topic, or the child (update_topic.lua, update_child.lua).
-- Publishes: step_available, workflow_terminal, when the deadline has passed already.
local WAITING = { state = "w", cause = "" }
-- Deadlines are clamped to the years 1 and 9999, in microseconds: a client can show no others.
local EARLIEST, LATEST = -62135596800000000, 253402214400000000
-- How many earlier waits are searched for a command that was sent again.
local RECENT = 16

-- The wait that this command has already begun, or nil. A call that was sent again finds it by its call id, any other
-- by its lease.
local function earlier_wait(workflow, item, again)
  local latest = waits.latest(workflow, item.step)
  if not latest then
    return nil
  end
  if item.lease ~= "" then
    local n = command("HGET", workflow.p, "l:" .. item.step .. ":" .. item.lease)
    local wait = n and waits.numbered(workflow, item.step, tonumber(n))
    if wait then
      return wait
    end
  end
  local oldest = again and max(latest.n - RECENT, 1) or latest.n
  for n = latest.n, oldest, -1 do
    local wait = waits.numbered(workflow, item.step, n)
    if wait and wait.call == item.call then
      return wait
    end
  end
  return nil
end

-- The recorded answer to this command when it was carried out before, or nil.
local function on_record(tx, workflow, item)
  local wait = earlier_wait(workflow, item, tx.again)
  if wait and wait.call == item.call then
    return { "accepted", codec.write_wait(wait) }
  end
  if wait and wait.topic == item.topic and wait.asked == item.deadline then
    evidence.duplicate(tx, workflow, item)
    return { "duplicate", codec.write_wait(wait) }
  end
  if wait or (item.lease ~= "" and results.of_lease(workflow, item.step, item.lease)) then
    return evidence.reject(
      tx, workflow, item, "already_terminal", "the lease has reported another outcome"
    )
  end
  return nil
end

-- Why the step may not wait in its present state, or nil.
local function obstacle(workflow, step, lease, child)
  if states.TERMINAL[step.state] then
    return "already_terminal", "the step is " .. states.NAME[step.state]
  end
  if workflow.h.cancel ~= "" and not branching.outlasts(workflow, step) then
    return "cancel_requested", "a cancel request stands"
  end
  if step.state == "p" then
    return "dependencies_unresolved", "the step waits for " .. step.remaining .. " of its dependencies"
  end
  if step.state == "r" then
    return "illegal_transition", "the step has failed, and waits to run again"
  end
  if lease == "" and (step.state == "e" or child) then
    return "lease_required", "the step is " .. states.NAME[step.state]
  end
  return nil
end

-- The answer to a command that changes nothing, or nil when it is to be carried out.
local function judge(tx, workflow, item)
  local refused = evidence.refuse_workflow(tx, workflow, item, tx.again)
  if refused then
    return refused
  end
  local step = transaction.step(workflow, item.step)
  if not step then
    return evidence.reject(tx, workflow, item, "step_not_found", "the workflow has no such step")
  end
  local known = on_record(tx, workflow, item)
  if known then
    return known
  end
  if item.lease ~= "" and not claims.is_current(step, item.lease) then
    return evidence.reject(tx, workflow, item, "stale_lease", "the lease is not the step's current one")
  end
  local reason, message = obstacle(workflow, step, item.lease, links.child(item))
  return reason and evidence.reject(tx, workflow, item, reason, message)
end

local function end_of(tx, asked)
  local kind, number = match(asked, "^([=+])(%-?%d+)")
  if kind ~= "+" then
    return number or ""
  end
  return integer.text(max(EARLIEST, min(LATEST, tx.us + number)))
end

local function accept(tx, workflow, item)
  local step = transaction.step(workflow, item.step)
  if waits.goes_on({ asked = item.deadline }) or links.child(item) then
    versions.need_branching(tx, workflow, item)
  end
  transitions.withdraw(tx, workflow, item.step, step)
  local wait = {
    status = "w", stamp = transaction.stamp(tx), deadline = end_of(tx, item.deadline), resolved = "",
    signal_id = "", acked = "", asked = item.deadline, call = item.call, actor = item.actor,
    lease = item.lease, topic = item.topic,
  }
  waits.begin(tx, workflow, item.step, wait)
  transitions.become(tx, workflow, item.step, step, WAITING)
  evidence.accept(tx, workflow, item, "accepted", "", format("wait %d has begun", wait.n))
  expiry.expire_named(tx, workflow, { item.step })
  return { "accepted", codec.write_wait(wait) }
end

return function(tx, step, call_id, lease, deadline, signal, correlation_key, note, actor)
  local item = {
    action = signal == "" and "start_child" or "await_step", scope = "step", step = step, call = call_id,
    lease = lease, deadline = deadline, topic = signal .. "|" .. correlation_key, note = note,
    actor = actor,
  }
  local workflow = transaction.workflow(tx, 1, { step })
  expiry.expire(tx, workflow, { step })
  local answer = judge(tx, workflow, item) or accept(tx, workflow, item)
  flush.commit(tx)
  local refused = answer[1] == "rejected"
  local header_ = workflow.h and flush.header(workflow) or false
  return { answer[1], not refused and answer[2], refused and answer, header_ }
end
