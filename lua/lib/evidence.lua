-- Evidence: durable entries about commands that were accepted, refused or repeated. Each workflow has two lists:
-- accepted commands, and the noise (refusals and duplicates), which is trimmed first. Commands on an unknown workflow
-- go to the partition's log. The note is the client's own JSON, and may hold anything.
local M = {}

local function entry(stamp, item, status, reason, message)
  return codec.write_evidence({
    stamp = stamp, action = item.action, scope = item.scope, step = item.step, status = status, reason = reason,
    call = item.call, message = message, note = item.note,
  })
end

-- Plans an entry for a decision beside the command itself.
function M.accept(tx, workflow, item, status, reason, message)
  workflow.accepted = workflow.accepted or {}
  workflow.accepted[#workflow.accepted + 1] = entry(transaction.stamp(tx), item, status, reason, message)
end

-- Plans an entry in a workflow's noise or, without a workflow, in the partition's log.
local function plan_noise(tx, workflow, text)
  local owner, list = workflow.h and workflow or tx, workflow.h and "noise" or "log"
  owner[list] = owner[list] or {}
  table.insert(owner[list], text)
end

local REPEATED = {
  insert = "duplicate_insert", complete_step = "duplicate_completion", await_step = "duplicate_await",
  start_child = "duplicate_child",
  deliver_signal = "duplicate_signal", request_cancel = "duplicate_cancel", recover_step = "duplicate_recovery",
  acknowledge = "duplicate_acknowledgement", start = "duplicate_start", append = "duplicate_append",
}

-- Plans an entry for an event that may happen any number of times: it is trimmed before all decisions.
function M.observe(tx, workflow, item, reason, message)
  plan_noise(tx, workflow, entry(transaction.stamp(tx), item, "accepted", reason, message))
end

-- Plans an entry for a repeated command, unless this very call has left one before.
function M.duplicate(tx, workflow, item, reason)
  if not item.noted then
    reason = reason or REPEATED[item.action]
    plan_noise(tx, workflow, entry(transaction.stamp(tx), item, "duplicate", reason, ""))
  end
end

-- Plans an entry for a signal that was consumed already, unless this very call has left one before.
function M.already_consumed(tx, workflow, item)
  if not item.noted then
    local text = entry(transaction.stamp(tx), item, "already_consumed", "already_consumed_signal", "")
    plan_noise(tx, workflow, text)
  end
end

-- Plans an entry in the partition's log, for a signal that no workflow has consumed.
function M.log(tx, item, status, reason, message)
  plan_noise(tx, {}, entry(transaction.stamp(tx), item, status, reason, message))
end

-- Plans an entry for a refusal, and returns the refusal. A call that a user's own Redis client sends again without
-- marking it gets its first refusal once more.
function M.reject(tx, workflow, item, reason, message)
  local before = M.refused_before(tx, workflow, item)
  if before then
    return before
  end
  local stamp = transaction.stamp(tx)
  local text = entry(stamp, item, "rejected", reason, message)
  plan_noise(tx, workflow, text)
  transaction.count(tx, "cr|" .. item.action .. "|" .. reason, 1)
  return { "rejected", reason, stamp, message }
end

-- The refusal of any command on a workflow that does not exist, or that this library does not understand; for a call
-- that was sent before, the refusal that it got then. Nil when the command may be judged.
function M.refuse_workflow(tx, workflow, item, again)
  local before = again and M.refused_before(tx, workflow, item)
  if before then
    return before
  end
  if not workflow.h then
    return M.reject(tx, workflow, item, "workflow_not_found", "there is no workflow " .. workflow.id)
  end
  if not states.IMPLEMENTED[workflow.h.semantics] then
    return M.reject(
      tx, workflow, item, "unsupported_semantics",
      "the workflow follows semantics version " .. workflow.h.semantics
    )
  end
  return nil
end

-- Refuses an operator's command on a workflow that may be recovered: the workflow needs review until a next command
-- is accepted, or it ends.
function M.reject_operator(tx, workflow, item, reason, message)
  local reply = M.reject(tx, workflow, item, reason, message)
  workflow.h.review, workflow.marked = "1", true
  return reply
end

-- How many of the latest entries are searched for a command that was sent again. It was sent moments ago, so its
-- entry is among them.
local RECENT = "-256"

-- For a call that was sent before: the reply that it got if it was refused, or nil. Notes whether it was a duplicate
-- then.
function M.refused_before(tx, workflow, item)
  local list = workflow.h and keyslots.other(workflow.w, "n") or tx.keys[keyslots.LOG]
  local recent = command("LRANGE", list, RECENT, "-1")
  for i = #recent, 1, -1 do
    local stamp, status, reason, id, message = codec.evidence_answer(recent[i])
    if id == item.call then
      item.noted = true
      return status == "rejected" and { "rejected", reason, stamp, message } or nil
    end
  end
  return nil
end

-- Whether a call that was sent before has left an entry of its own among what was accepted.
function M.accepted_before(workflow, item)
  local recent = command("LRANGE", keyslots.other(workflow.w, "e"), RECENT, "-1")
  for i = #recent, 1, -1 do
    if codec.evidence_call(recent[i]) == item.call then
      return true
    end
  end
  return false
end

-- Appends a workflow's planned entries; called by flush only. The oldest noise makes room.
function M.write(workflow)
  local accepted, noise = keyslots.other(workflow.w, "e"), keyslots.other(workflow.w, "n")
  local kept
  if workflow.accepted then
    kept = command("RPUSH", accepted, unpack(workflow.accepted))
  end
  if workflow.noise then
    kept = command("RPUSH", noise, unpack(workflow.noise)) + (kept or command("LLEN", accepted))
  elseif kept then
    kept = kept + command("LLEN", noise)
  end
  local over = (kept or 0) - states.EVIDENCE_KEPT
  if over > 0 then
    local dropped = #(command("LPOP", noise, over) or {})
    if dropped < over then
      dropped = dropped + #(command("LPOP", accepted, over - dropped) or {})
    end
    command("HINCRBY", workflow.w, ":d", dropped)
  end
end

function M.write_log(tx)
  local log = tx.keys[keyslots.LOG]
  command("RPUSH", log, unpack(tx.log))
  command("LTRIM", log, -states.EVIDENCE_KEPT, "-1")
end

return M
