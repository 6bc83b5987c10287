-- Claims: steps that run under a lease, which is "attempt-token" and so names the result row that it may stand in
-- (results.of_lease).
-- The claim was made when the step became executing: at the record's since. No lease ends later than the step's
-- timeout and states.TIMEOUT_GRACE_MS after that. The partition's timers hold "l|workflow|step" at its end.
local M = {}

M.UNCOUNTED = "=" -- what an available step holds when a signal has woken it
local EXECUTING = { state = "e", cause = "" }
local AVAILABLE_NOTE = '{"source":"server"}'

-- The latest end that a lease of this executing step may have, or nil.
local function limit(step)
  local timeout = record.timeout_ms(step)
  return timeout and step.since + timeout + states.TIMEOUT_GRACE_MS
end

local function write(tx, workflow, name, step, claim, expires)
  expires = min(expires, limit(step) or expires)
  claim.expires = expires
  step.claim = codec.write_claim(claim)
  workflow.dirty[name] = true
  transaction.set_timer(tx, workflow, "l", name, workflow.h.inserted + expires)
end

-- When an executing step's lease ends, from the workflow's insertion on; and that as a server's time.
function M.expires(step)
  return codec.claim_expires(step.claim)
end

function M.due(workflow, step)
  return workflow.h.inserted + M.expires(step)
end

-- Whether an executing step is under this lease.
function M.is_current(step, lease)
  return step.state == "e" and lease == step.attempt .. "-" .. match(step.claim, "^[^:]*")
end

-- The lease that an executing step is under; "" for any other.
function M.lease(step)
  return step.state == "e" and step.attempt .. "-" .. codec.claim_token(step.claim) or ""
end

-- Who runs an executing step, percent-quoted.
function M.worker(step)
  return codec.claim_worker(step.claim)
end

-- Whether a call with this token has made the current claim of a step, and its lease has not passed.
function M.is_held(workflow, step, token)
  if step.state ~= "e" then
    return false
  end
  return codec.claim_token(step.claim) == token and codec.claim_expires(step.claim) > tonumber(workflow.since)
end

-- The note of a report, with who ran the step and when that was claimed (ms) put in front. Nobody runs a step that is
-- not executing: its note stays as it is.
function M.signed(workflow, step, note)
  if step.state ~= "e" or byte(note, 2) ~= 34 then -- it holds nothing
    return note
  end
  return '{"by":"' .. M.worker(step) .. '","at":' .. integer.text(workflow.h.inserted + step.since) .. "," .. sub(note, 2)
end

-- Gives an available step to a worker.
function M.start(tx, workflow, name, step, token, worker, lease_ms)
  local counted, order = step.claim == M.UNCOUNTED and "0" or "1", step.order
  transitions.withdraw(tx, workflow, name, step)
  transitions.become(tx, workflow, name, step, EXECUTING)
  step.order = order
  if counted == "1" then
    step.attempt = integer.text(step.attempt + 1)
  end
  if step.started == "" then
    step.started = workflow.since
  end
  if workflow.h.started == "" then
    workflow.h.started = workflow.since
  end
  local claim = { token = token, expires = 0, counted = counted, worker = worker }
  write(tx, workflow, name, step, claim, workflow.since + lease_ms)
end

-- Has the lease end that much later than now.
function M.extend(tx, workflow, name, step, lease_ms)
  write(tx, workflow, name, step, codec.read_claim(step.claim), workflow.since + lease_ms)
end

-- Has the lease end that much earlier.
function M.shorten(tx, workflow, name, step, by_ms)
  local claim = codec.read_claim(step.claim)
  write(tx, workflow, name, step, claim, max(claim.expires - by_ms, 0))
end

-- Gives an unstarted step back, to the place that it had; the claim has counted nothing.
function M.hand_back(tx, workflow, name, step)
  local counted, order = codec.read_claim(step.claim).counted, step.order
  transitions.withdraw(tx, workflow, name, step)
  if counted == "1" then
    step.attempt = integer.text(step.attempt - 1)
  end
  if transitions.enqueue(tx, workflow, name, step, order) then
    step.claim = counted == "0" and M.UNCOUNTED or ""
  end
end

-- Gives an unstarted step back that cannot run as long as a result is missing that its input refers to.
function M.block(tx, workflow, name, step)
  M.hand_back(tx, workflow, name, step)
  if step.state == "a" then
    local claim = step.claim
    transitions.withdraw(tx, workflow, name, step)
    transitions.become(tx, workflow, name, step, { state = "p", cause = "" })
    step.remaining, step.walked, step.claim = "1", "b", claim
  end
end

-- Takes a passed lease away: the step runs again, if it has an attempt left. The evidence tells a lease that could
-- not be extended, because of the step's timeout, from one that nobody has extended.
function M.lapse(tx, workflow, name, step)
  local held = codec.read_claim(step.claim)
  local item = { action = "claim", scope = "step", step = name, call = "", note = AVAILABLE_NOTE }
  local timed_out = held.expires >= (limit(step) or held.expires + 1)
  evidence.accept(
    tx, workflow, item, "accepted", timed_out and "timed_out" or "lease_expired",
    "the lease " .. step.attempt .. "-" .. held.token .. " of " .. held.worker
      .. (timed_out and " has ended with the step's timeout" or " has expired")
  )
  transaction.count(tx, "le", 1)
  transitions.withdraw(tx, workflow, name, step)
  if tonumber(step.attempt) >= record.last_attempt(step) then
    evidence.accept(
      tx, workflow, item, "accepted", "attempts_exhausted", "attempt " .. step.attempt .. " was the last"
    )
    transitions.become(tx, workflow, name, step, states.ATTEMPTS_EXHAUSTED)
    if record.children(step) ~= "" then
      step.walked = "0"
      workflow.lapsed = workflow.lapsed or {}
      workflow.lapsed[#workflow.lapsed + 1] = name
    end
  else
    transitions.enqueue(tx, workflow, name, step)
  end
end

-- Walks from the steps that ended with their leases.
function M.walk_lapsed(tx, workflow)
  if workflow.lapsed then
    local done = propagate.descend(tx, workflow, workflow.lapsed)
    propagate.append(workflow, "", done, done.at)
  end
end

return M
