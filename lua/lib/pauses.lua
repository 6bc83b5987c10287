-- Pauses: a claimed step that its worker could not begin was given back, uncounted, and is retryable for a while.
local M = {}

local PAUSED = { state = "r", cause = "" }
local MANY = 1000
local NOTE = '{"source":"server"}'
local MESSAGES = {
  no_handler = " has no handler for the step",
  input_too_large = " does not take an input as large as the step's",
  input_unreadable = " cannot read what the step's input is made of",
}

local function mark_of(workflow, name, step)
  local wait, put_off = waits.latest(workflow, name), results.put_off(workflow, name)
  return step.reported .. ":" .. (wait and integer.text(wait.n) or "0") .. ":" .. (put_off and put_off.stamp or "0")
end

-- How many pauses for this reason a step has had in a row.
local function in_a_row(workflow, name, code, mark)
  local number, was, had = codec.pause_row(command("HGET", workflow.p, "z:" .. name) or "")
  return was == code and had == mark and number or 0
end

-- Gives a claimed step back for a while. Only the first pause in a row leaves evidence, as a step may be given back
-- any number of times. When the payload hash has another type, the longest pause is taken and nothing is noted.
function M.begin(tx, workflow, name, step, code)
  if not MESSAGES[code] then
    error("a step is given back for no reason that there is")
  end
  local worker, known = claims.worker(step), transaction.is_type(workflow.p, "hash")
  local mark = known and mark_of(workflow, name, step)
  local number = known and in_a_row(workflow, name, code, mark) + 1 or MANY
  claims.hand_back(tx, workflow, name, step)
  if step.state ~= "a" then
    return -- a cancel request has ended it
  end
  local order, claim = step.order, step.claim
  transitions.withdraw(tx, workflow, name, step)
  transitions.become(tx, workflow, name, step, PAUSED)
  local delay = min(states.LONGEST_PAUSE_MS, states.FIRST_PAUSE_MS * 2 ^ (number - 1))
  step.order, step.claim, step.due = order, claim, integer.text(workflow.since + delay)
  transaction.set_timer(tx, workflow, "r", name, workflow.h.inserted + step.due)
  if not known then
    return
  end
  results.set(workflow, "z:" .. name, codec.write_pause({
    number = number, reason = code, due = step.due, mark = mark, worker = worker,
  }))
  if number == 1 then
    local item = { action = "claim", scope = "step", step = name, call = "", note = NOTE }
    evidence.accept(tx, workflow, item, "accepted", code, worker .. MESSAGES[code])
  end
end

return M
