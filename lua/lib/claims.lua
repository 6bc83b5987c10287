-- Claims: steps that run under a lease, "attempt-token", which so names the result row of its report (results.of_lease).
-- The claim was made when the step became executing: at the record's since. No lease ends later than the step's
-- timeout and states.TIMEOUT_GRACE_MS after that. The partition's timers hold "l|workflow|step" at its end.
--
-- A ticket is a claim under which no attempt has begun yet: a dispatcher holds it for an executor that is to start the
-- step. Its token ends with a point, to which the start appends the run; it ends when it was held for too long.
local M = {}

M.UNCOUNTED = "=" -- a step that a signal has woken holds this while it is available
local EXECUTING = { state = "e", cause = "" }
local AVAILABLE_NOTE = '{"source":"server"}'

-- The latest end that a lease of this executing step may have, or nil.
local function limit(step)
  local timeout = record.timeout_ms(step)
  return timeout and step.since + timeout + states.TIMEOUT_GRACE_MS
end

-- Whether a claim's token is that of a ticket.
local function is_unstarted(token)
  return byte(token, -1) == 46
end

-- Whether the step is held under a ticket that nobody has started yet. Of most claims the plain search tells that they
-- are none, in a fraction of the time.
function M.is_ticket(step)
  return step.state == "e" and find(step.claim, ".:", 1, true) ~= nil and is_unstarted(codec.claim_token(step.claim))
end

-- Whether somebody runs the step.
function M.is_running(step)
  return step.state == "e" and not M.is_ticket(step)
end

-- Whether an open step's present attempt is to be reported next, or gone on with by its next claim.
function M.has_attempt(step)
  if M.is_ticket(step) then
    return codec.read_claim(step.claim).counted == "0"
  end
  return step.state == "e" or step.state == "w" or step.claim == M.UNCOUNTED
end

local function write(tx, workflow, name, step, claim, expires)
  if not is_unstarted(claim.token) then
    expires = min(expires, limit(step) or expires)
  end
  claim.expires = expires
  step.claim = codec.write_claim(claim)
  workflow.dirty[name] = true
  transaction.set_timer(tx, workflow, "l", name, workflow.h.inserted + expires)
end

-- When an executing step's lease ends, relative to the workflow's insertion; and as a server's time.
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

-- The note of a report, with the runner, the time of the claim (ms), and how long the step had been available then (ms)
-- put in front. A step that nobody runs has no runner: its note is returned unchanged.
function M.signed(workflow, step, note)
  if step.state ~= "e" or byte(note, 2) ~= 34 then -- it holds nothing
    return note
  end
  local token, worker = codec.claim_holder(step.claim)
  if is_unstarted(token) then
    return note
  end
  local claimed, came = workflow.h.inserted + step.since, queue.came_in(step.order)
  local waited = came and ',"waited":' .. integer.text(max(claimed - came, 0)) or ""
  return '{"by":"' .. worker .. '","at":' .. integer.text(claimed) .. waited .. "," .. sub(note, 2)
end

-- Begins an attempt of a step, which its claim counts or not.
local function begin(workflow, step, counted)
  if counted == "1" then
    step.attempt = integer.text(step.attempt + 1)
  end
  if step.started == "" then
    step.started = workflow.since
  end
  if workflow.h.started == "" then
    workflow.h.started = workflow.since
  end
end

-- Gives an available step to a worker or, with a ticket's token, to a dispatcher.
function M.start(tx, workflow, name, step, token, worker, lease_ms)
  local counted, order = step.claim == M.UNCOUNTED and "0" or "1", step.order
  transitions.withdraw(tx, workflow, name, step)
  transitions.become(tx, workflow, name, step, EXECUTING)
  step.order = order
  if is_unstarted(token) then
    transaction.count(tx, "tk|issued", 1)
  else
    begin(workflow, step, counted)
  end
  local claim = { token = token, expires = 0, counted = counted, worker = worker }
  write(tx, workflow, name, step, claim, workflow.since + lease_ms)
end

-- Starts the step of a ticket, for the run that is the first to ask.
function M.start_ticket(tx, workflow, name, step, run, worker, lease_ms)
  local claim = codec.read_claim(step.claim)
  transitions.become(tx, workflow, name, step, EXECUTING)
  begin(workflow, step, claim.counted)
  transaction.count(tx, "tk|started", 1)
  claim.token, claim.worker = claim.token .. run, worker
  write(tx, workflow, name, step, claim, workflow.since + lease_ms)
end

-- Extends the lease to that much after now.
function M.extend(tx, workflow, name, step, lease_ms)
  write(tx, workflow, name, step, codec.read_claim(step.claim), workflow.since + lease_ms)
end

-- Shortens the lease by that much.
function M.shorten(tx, workflow, name, step, by_ms)
  local claim = codec.read_claim(step.claim)
  write(tx, workflow, name, step, claim, max(claim.expires - by_ms, 0))
end

-- Gives an unstarted step back to its old place in the queue; the claim counts no attempt.
function M.hand_back(tx, workflow, name, step)
  local counted, order, begun = codec.read_claim(step.claim).counted, step.order, M.is_running(step)
  transitions.withdraw(tx, workflow, name, step)
  if counted == "1" and begun then
    step.attempt = integer.text(step.attempt - 1)
  end
  if transitions.enqueue(tx, workflow, name, step, order) then
    step.claim = counted == "0" and M.UNCOUNTED or ""
  end
end

-- Gives an unstarted step back that cannot run while a result is missing to which its input refers.
function M.block(tx, workflow, name, step)
  M.hand_back(tx, workflow, name, step)
  if step.state == "a" then
    local claim = step.claim
    transitions.withdraw(tx, workflow, name, step)
    transitions.become(tx, workflow, name, step, { state = "p", cause = "" })
    step.remaining, step.walked, step.claim = "1", "b", claim
  end
end

-- Ends a ticket that was not started in time: the step goes back to its old place in the queue. That may happen any
-- number of times, so evidence of it is trimmed first.
local function void(tx, workflow, name, step, held)
  local item = { action = "dispatch", scope = "step", step = name, call = "", note = AVAILABLE_NOTE }
  evidence.observe(
    tx, workflow, item, "ticket_void", "the ticket of " .. held.worker .. " has not been started in time"
  )
  transaction.count(tx, "tk|void", 1)
  M.hand_back(tx, workflow, name, step)
end

-- Takes away a lease that has passed: the step runs again if it has an attempt left. The evidence tells a lease that
-- could not be extended, because of the step's timeout, from one that was not extended.
function M.lapse(tx, workflow, name, step)
  local held = codec.read_claim(step.claim)
  if is_unstarted(held.token) then
    return void(tx, workflow, name, step, held)
  end
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
