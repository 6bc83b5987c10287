-- The ready queue: one sorted set a partition, equal scores, read in the order of its members:
--   class|order|workflow|step      class = queue:urgency, order = round, milliseconds, number
-- A round takes up to states.ROUND_SHARE steps of one workflow and class, so that a backlog of one
-- workflow delays the first steps of another by about as many (SPEC section 8).
local M = {}

-- The round of the step that would be claimed next; 0 when none waits, and then the class is noted:
-- whoever puts a step into it wakes the workers.
local function present_round(call, class)
  local round = call.heads[class]
  if round then
    return round
  end
  local first = command(
    "ZRANGEBYLEX", call.keys[keyslots.READY], "[" .. class .. "|", "(" .. class .. "}", "LIMIT", "0", "1"
  )[1]
  if first then
    round = tonumber(sub(first, #class + 2, #class + 7), 16)
  else
    round = 0
    call.woken = call.woken or {}
    call.woken[#call.woken + 1] = class
  end
  call.heads[class] = round
  return round
end

-- The next of the workflow's turns in a class, counted in steps; the last is in its field ":tclass". A
-- small workflow needs no account: its steps fit the present round.
local function next_turn(flow, class)
  flow.turns = flow.turns or {}
  local last = flow.turns[class]
  if not last then
    last = not flow.created and command("HGET", flow.w, ":t" .. class) or -1
  end
  return last + 1
end

local function round_for(call, flow, class)
  local round = present_round(call, class)
  if flow.h.steps <= states.ROUND_SHARE then
    return round
  end
  local turn = max(next_turn(flow, class), round * states.ROUND_SHARE)
  flow.turns[class] = turn
  return floor(turn / states.ROUND_SHARE)
end

-- Puts a step into the queue; returns its order there.
function M.add(call, flow, name, class)
  call.serial = call.serial + 1
  local order = format("%06x%011x%04x", round_for(call, flow, class), call.ms, call.serial)
  call.queued[class .. "|" .. order .. "|" .. flow.id .. "|" .. name] = true
  return order
end

function M.remove(call, flow, name, class, order)
  local member = class .. "|" .. order .. "|" .. flow.id .. "|" .. name
  if call.queued[member] then
    call.queued[member] = nil -- it was added by this very call
  else
    call.queued[member] = false
  end
end

return M
