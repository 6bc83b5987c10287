-- withdraw_signal: takes back a signal that no wait has consumed, and frees its dedupe key.
--
-- Writes: the topic, timers, statistics; to the partition's log evidence of a withdrawal and of a refusal.
local function reject(tx, item, reason, message, next_step)
  local reply = evidence.reject(tx, {}, item, reason, message)
  reply[5] = next_step
  return reply
end

-- Whether the signal may be on its way to a wait, or is not matched yet because another one is on its way.
local function is_waiting(t, number)
  return t.handed and (t.handed.number == number or number > t.counted)
end

local function judge(tx, t, item, number, seen, patience)
  local signal = topic.signal(t, number)
  if not signal then
    return reject(tx, item, "signal_not_found", "there is no such signal, or no more")
  end
  if signal.status == "c" then
    local message = "step " .. signal.step .. " of workflow " .. signal.workflow_id .. " has consumed it"
    return reject(tx, item, "already_consumed_signal", message)
  end
  if not seen then
    return { "look" }
  end
  if is_waiting(t, number) then
    if patience then
      return { "busy", topic.handed(t) }
    end
    local message = "a signal is being handed over to workflow " .. t.handed.workflow_id
    return reject(tx, item, "illegal_transition", message, "reconcile")
  end
  if number > t.counted then
    topic.judge(tx, t)
    return { "more" }
  end
  return nil
end

local function accept(tx, t, item, number)
  local signal = topic.signal(t, number)
  topic.withdraw(tx, t, signal)
  topic.judge(tx, t) -- it may have been the oldest, by which the timer goes
  if not item.noted then
    evidence.log(tx, item, "accepted", "", "signal " .. integer.text(number) .. " is withdrawn")
  end
  return { "accepted" }
end

return function(tx, number, call_id, note, seen, patient)
  local item = { action = "withdraw_signal", scope = "signal", step = "", call = call_id, note = note }
  local before = tx.again and evidence.refused_before(tx, {}, item)
  if before then
    return before
  end
  local t = topic.open(tx)
  if item.noted and not topic.signal(t, number) then
    return { "accepted" }
  end
  local answer = judge(tx, t, item, number, seen, patient) or accept(tx, t, item, number)
  topic.commit(tx, t)
  return answer
end
