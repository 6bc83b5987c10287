-- What a cancel request does to the steps of a workflow: all that have not ended and do not run are
-- cancelled, a chunk of steps at a time, in an entry among those that are still to be walked (walk.lua):
--   *cancel|n                      n: the next chunk
-- Edges of the steps that end so need no walking, as every child ends in the same way. Steps that run are left
-- to report, unless the request is forced: then their leases are taken away. The field ":f" of the workflow's hash
-- says so, by the time of the request that is forced; it outlives a request that was closed, and is none of a later.
local M = {}

M.ORIGIN = "*cancel"

local FORCED = ":f"
local SERVER_NOTE = '{"source":"server"}'

local function requested_at(flow)
  return match(flow.h.cancel, "^%d+")
end

-- Whether the standing request takes leases away.
function M.is_forced(flow)
  return flow.forced or command("HGET", flow.w, FORCED) == requested_at(flow)
end

-- Puts the sweep behind all that is still to be walked.
function M.begin(flow, forced)
  if forced then
    flow.forced = true
    call.set(flow, FORCED, requested_at(flow))
  end
  walk.put(flow, flow.h.tail, M.ORIGIN .. "|0")
  flow.h.tail = flow.h.tail + 1
  flow.moved = true
end

-- Ends one step so, which is open.
function M.cancel(call_, flow, name)
  local step = call.step(flow, name)
  moves.withdraw(call_, flow, name, step)
  moves.become(call_, flow, name, step, states.CANCELLED_BY_REQUEST)
end

-- Ends one step that runs, and says whose lease that has taken away.
local function take_lease(call_, flow, name)
  local step = call.step(flow, name)
  local item = { action = "request_cancel", scope = "step", step = name, call = "", note = SERVER_NOTE }
  evidence.accept(
    call_, flow, item, "accepted", "lease_taken",
    "the lease " .. claims.lease(step) .. " of " .. claims.worker(step) .. " was taken away"
  )
  M.cancel(call_, flow, name)
end

-- Sweeps the chunk that the workflow's first entry names.
function M.advance(call_, flow, chunk)
  local names = {}
  for name in gmatch(command("HGET", flow.w, "#" .. call.number(chunk)), "[^,]+") do
    names[#names + 1] = name
  end
  call.fetch(flow, names)
  if flow.h.w > 0 then
    waits.expire_named(call_, flow, names) -- those that had expired before the request
  end
  local forced = flow.h.e > 0 and M.is_forced(flow)
  for i = 1, #names do
    local state = sub(call.text(flow, names[i]), 1, 1)
    if state == "e" then
      if forced then
        take_lease(call_, flow, names[i])
      end
    elseif not states.TERMINAL[state] then
      M.cancel(call_, flow, names[i])
    end
  end
  if (chunk + 1) * states.CHUNK < flow.h.steps then
    walk.put(flow, flow.h.head, M.ORIGIN .. "|" .. call.number(chunk + 1))
  else
    walk.drop_first(flow)
  end
  flow.moved = true
  call_.budget = 0
end

return M
