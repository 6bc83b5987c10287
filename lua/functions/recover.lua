-- recover: carries out an operator's retry, skip or cancel of a step (recovery.lua).
--
-- Bound: the call's budget of edges; of the changes at most 1,000 are returned.
-- Writes: records, header, counts, the session, evidence, ready queue, timers, waits, outbox, statistics.
-- Publishes: step_available, workflow_terminal.
local RECENT = 16
local STAYS_COMPLETED = "inspect_step_result"

-- The session that this command is on record for: by its command id or, when the call is sent again, by its call id.
-- Returns its number, its text and which of the two was found. A number that the header does not count was left by a
-- call that was cut off before the header was written.
local function on_record(workflow, item, again)
  local number = item.command ~= "" and command("HGET", workflow.p, "!" .. item.step .. ":" .. item.command)
  if number and tonumber(number) <= workflow.h.recoveries then
    local text = recovery.stored(workflow, number)
    return number, text, codec.read_session(text).call == item.call and "accepted" or "duplicate"
  end
  for at = workflow.h.recoveries, again and max(workflow.h.recoveries - RECENT, 1) or workflow.h.recoveries, -1 do
    local text = recovery.stored(workflow, at)
    if text and codec.read_session(text).call == item.call then
      return integer.text(at), text, "accepted"
    end
  end
  return nil
end

-- The parent in a chunk of them that would cancel the step again, or nil; and whether there is a further chunk.
local function cancelling_parent(workflow, name, step, chunk)
  local text = codec.step_parents(step.static)
  local total = byte(text) == 35 and tonumber(sub(text, 2))
  if total then
    text = command("HGET", workflow.p, "u:" .. name .. ":" .. chunk)
  end
  local names = {}
  for sign, parent in gmatch(text, "([+!]?)([^,+!]+)") do
    if sign == "" then
      names[#names + 1] = parent
    end
  end
  transaction.fetch(workflow, names)
  for i = 1, #names do
    local state = transaction.step(workflow, names[i]).state
    if states.TERMINAL[state] and state ~= "c" then
      return names[i]
    end
  end
  return nil, total and (chunk + 1) * states.CHUNK < total
end

-- The reason why the step's own state forbids this recovery, and a next step that does not follow from the reason
-- alone. Parents are judged apart.
local function obstacle(workflow, item, step)
  local asked_to_end = workflow.h.cancel ~= "" and not branching.outlasts(workflow, step)
  if asked_to_end and item.recovery ~= "cancel" and not item.reopen then
    return "cancel_requested", "a cancel request stands"
  end
  if step.state == "e" and not item.force then
    return "illegal_transition", "the step is executing", "recover_with_force"
  end
  if branching.is_superseded(step) then
    return "illegal_transition", "the step was superseded by a recovery of the one that has appended it"
  end
  if item.recovery == "cancel" then
    if states.TERMINAL[step.state] then
      return "already_terminal", "the step is " .. states.NAME[step.state]
    end
    return nil
  end
  if step.state == "c" and not (item.recovery == "retry" and item.reach == "downstream") then
    return "illegal_transition", "the step has completed", STAYS_COMPLETED
  end
  return nil
end

local function reject(tx, workflow, item, reason, message, next_step)
  local reply = evidence.reject_operator(tx, workflow, item, reason, message)
  reply[5] = next_step or ""
  return reply
end

-- A retry would be of no use where a parent cancels the step again.
local function judge_parents(tx, workflow, item, step)
  local parent, more = cancelling_parent(workflow, item.step, step, item.chunk)
  if parent then
    local message = parent .. ", which it depends on, has not completed"
    return reject(tx, workflow, item, "dependencies_unresolved", message)
  end
  return more and { "more" }
end

local function judge(tx, workflow, item)
  local refused = evidence.refuse_workflow(tx, workflow, item, tx.again)
  if refused then
    return refused
  end
  local step = transaction.step(workflow, item.step)
  if not step then
    return reject(tx, workflow, item, "step_not_found", "the workflow has no such step")
  end
  local number, text, kind = on_record(workflow, item, tx.again)
  if number then
    if kind == "duplicate" then
      evidence.duplicate(tx, workflow, item)
    end
    return { kind, number, text }
  end
  if workflow.h.head < workflow.h.tail then
    return { "busy" }
  end
  if requests.is_unstarted(workflow) then
    return reject(tx, workflow, item, "illegal_transition", "the workflow has not started yet")
  end
  local reason, message, next_step = obstacle(workflow, item, step)
  if reason then
    return reject(tx, workflow, item, reason, message, next_step)
  end
  return item.recovery == "retry" and judge_parents(tx, workflow, item, step)
end

local function accept(tx, workflow, item)
  local step = transaction.step(workflow, item.step)
  local before = states.NAME[step.state]
  local number, session = recovery.begin(tx, workflow, item, step)
  if item.command ~= "" then
    results.set(workflow, "!" .. item.step .. ":" .. item.command, number)
  end
  item.note = format('{"before":"%s","after":"%s",', before, states.NAME[transaction.step(workflow, item.step).state])
    .. sub(item.note, 2)
  evidence.accept(tx, workflow, item, "accepted", "", item.recovery .. " in session " .. number)
  return { "accepted", number, codec.write_session(session) }
end

return function(tx, step, call_id, command_id, action, scope, force, reopen, note, parents_chunk)
  local item = {
    action = "recover_step", scope = "step", step = step, call = call_id, command = command_id,
    recovery = action, reach = scope, force = force, reopen = reopen, note = note, chunk = parents_chunk,
  }
  local workflow = transaction.workflow(tx, 1, { step })
  expiry.expire(tx, workflow, { step })
  local answer = judge(tx, workflow, item) or accept(tx, workflow, item)
  flush.commit(tx)
  if answer[1] == "rejected" then
    return answer
  end
  local header_ = answer[2] and flush.header(workflow) or false
  return { answer[1], answer[2] or false, answer[3] or false, header_ }
end
