-- The effect of a cancel request on the steps of a workflow: all that have not ended and do not run are cancelled, a
-- chunk of steps at a time, as an entry among those that are still to be walked (propagate.lua). The edges of these steps
-- need no walking, as every child is cancelled by the request itself; except under semantics version 3, where steps that
-- always run must learn that their parents have ended. Running steps are left to report, unless the request is forced:
-- then their leases are taken away. The field ":f" of the workflow's hash holds the time of the forced request; it stays
-- when that request is closed, and does not apply to a later one.
local M = {}

local ORIGIN = "*cancel"

local FORCED = ":f"
local SERVER_NOTE = '{"source":"server"}'

local function requested_at(workflow)
  return match(workflow.h.cancel, "^%d+")
end

-- Whether the open request takes leases away.
function M.is_forced(workflow)
  return workflow.forced or command("HGET", workflow.w, FORCED) == requested_at(workflow)
end

-- Queues the sweep behind everything that is still to be walked. Returns its entry.
function M.begin(workflow, forced)
  if forced then
    workflow.forced = true
    transaction.set(workflow, FORCED, requested_at(workflow))
  elseif M.is_forced(workflow) then -- by another request of the same millisecond, which was closed
    transaction.remove(workflow, FORCED)
  end
  local entry = { origin = ORIGIN, left = "0" }
  propagate.put(workflow, workflow.h.tail, entry)
  workflow.h.tail = workflow.h.tail + 1
  workflow.moved = true
  return entry
end

-- Cancels one open step.
function M.cancel(tx, workflow, name)
  local step = transaction.step(workflow, name)
  transitions.withdraw(tx, workflow, name, step)
  transitions.cancel_by_request(tx, workflow, name, step)
end

-- Cancels one running step, with evidence of whose lease was taken away.
local function take_lease(tx, workflow, name)
  local step = transaction.step(workflow, name)
  local item = { action = "request_cancel", scope = "step", step = name, call = "", note = SERVER_NOTE }
  evidence.accept(
    tx, workflow, item, "accepted", "lease_taken",
    "the lease " .. claims.lease(step) .. " of " .. claims.worker(step) .. " was taken away"
  )
  M.cancel(tx, workflow, name)
end

-- Cancels the steps of the chunk that the workflow's first entry names.
function M.advance(tx, workflow, entry)
  local chunk, names = tonumber(entry.left), {}
  for name in gmatch(command("HGET", workflow.w, "#" .. integer.text(chunk)) or error(states.UNREADABLE), "[^,]+") do
    names[#names + 1] = name
  end
  transaction.fetch(workflow, names)
  if workflow.h.w > 0 then
    expiry.expire_named(tx, workflow, names) -- waits that had expired before the request
  end
  local forced = workflow.h.e > 0 and M.is_forced(workflow)
  for i = 1, #names do
    local state = codec.step_state(transaction.text(workflow, names[i]) or error(states.UNREADABLE))
    local runs = state == "e" and claims.is_running(transaction.step(workflow, names[i]))
    local ends = not states.TERMINAL[state] and (forced or not runs)
    if ends and not branching.outlasts(workflow, transaction.step(workflow, names[i])) then
      local end_step = runs and take_lease or M.cancel
      end_step(tx, workflow, names[i])
    end
  end
  if (chunk + 1) * states.CHUNK < workflow.h.steps then
    entry.left = integer.text(chunk + 1)
    propagate.put(workflow, workflow.h.head, entry)
  else
    propagate.drop_first(workflow)
  end
  workflow.moved = true
  tx.budget = 0
end

propagate.resume[ORIGIN] = M.advance

return M
