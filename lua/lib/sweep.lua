-- What a cancel request does to the steps of a workflow: all that have not ended and do not run are
-- cancelled, a chunk of steps at a time, in an entry among those that are still to be walked (walk.lua):
--   *cancel|n                      n: the next chunk
-- Edges of the steps that end so need no walking, as every child ends in the same way.
local M = {}

M.ORIGIN = "*cancel"

-- Puts the sweep behind all that is still to be walked.
function M.begin(flow)
  walk.put(flow, flow.h.tail, M.ORIGIN .. "|0")
  flow.h.tail = flow.h.tail + 1
  flow.moved = true
end

-- Ends one step so, which is open and does not run.
function M.cancel(call_, flow, name)
  local step = call.step(flow, name)
  moves.withdraw(call_, flow, name, step)
  moves.become(call_, flow, name, step, states.CANCELLED_BY_REQUEST)
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
  for i = 1, #names do
    local state = sub(call.text(flow, names[i]), 1, 1)
    if state ~= "e" and not states.TERMINAL[state] then
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
