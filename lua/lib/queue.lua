-- The ready queue: one sorted set a partition, equal scores, read in the order of its members:
--   class|order|workflow|step      class = queue:urgency, order = round, milliseconds, number
-- A round takes up to states.ROUND_SHARE steps of one workflow and class, so that a backlog of one
-- workflow delays the first steps of another by about as many (SPEC section 8).
--
-- A claimer first takes entries out, whose workflows' keys its call cannot have declared, and then
-- starts their steps. Until that, an entry stands in a second sorted set, "reserved", at the time when
-- it goes back for others: nothing is lost when the claimer dies in between.
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

function M.member(flow, name, class, order)
  return class .. "|" .. order .. "|" .. flow.id .. "|" .. name
end

-- Puts a step into the queue; returns its order there.
function M.add(call, flow, name, class)
  call.serial = call.serial + 1
  local order = format("%06x%011x%04x", round_for(call, flow, class), call.ms, call.serial)
  call.queued[M.member(flow, name, class, order)] = true
  return order
end

function M.remove(call, flow, name, class, order)
  local member = M.member(flow, name, class, order)
  if call.queued[member] then
    call.queued[member] = nil -- it was added by this very call
  else
    call.queued[member] = false
  end
end

-- When the step of an entry became available (ms).
local function since(member)
  return tonumber(match(member, "|%x%x%x%x%x%x(%x%x%x%x%x%x%x%x%x%x%x)"), 16)
end

local CLASSES_PER_CALL = 200
local RESERVED_PER_CALL = "100"

-- Since when the longest waiting of the steps that come next, each in its class, have been available; nil
-- when there are none. Looks at some classes, from a bound on; returns the bound to go on from, or false.
function M.oldest(call_, from)
  local oldest
  local reserved = command("ZRANGE", call_.keys[keyslots.RESERVED], "0", RESERVED_PER_CALL)
  for i = 1, #reserved do
    oldest = min(oldest or since(reserved[i]), since(reserved[i]))
  end
  for _ = 1, CLASSES_PER_CALL do
    local first = command("ZRANGEBYLEX", call_.keys[keyslots.READY], from, "+", "LIMIT", "0", "1")[1]
    if not first then
      return oldest, false
    end
    oldest = min(oldest or since(first), since(first))
    from = "(" .. match(first, "^[^|]+") .. "}"
  end
  return oldest, from
end

-- Entries that nobody has come back for.
local RETURNED_PER_CALL = "100"

local function take_back(call_)
  local ready, reserved = call_.keys[keyslots.READY], call_.keys[keyslots.RESERVED]
  local left = command(
    "ZRANGEBYSCORE", reserved, "-inf", call.number(call_.ms), "LIMIT", "0", RETURNED_PER_CALL
  )
  if #left > 0 then
    local members = {}
    for i = 1, #left do
      members[2 * i - 1], members[2 * i] = "0", left[i]
    end
    command("ZADD", ready, unpack(members))
    command("ZREM", reserved, unpack(left))
  end
end

-- What orders an entry among those of other queues: urgency and order.
local function rank(member)
  return sub(member, find(member, ":", 1, true))
end

-- The first entries of these queues, in the order in which they are to be claimed.
local function first_of(call_, names, limit)
  local found = {}
  for i = 1, #names do
    local page = command(
      "ZRANGEBYLEX", call_.keys[keyslots.READY], "[" .. names[i] .. ":", "(" .. names[i] .. ";",
      "LIMIT", "0", limit
    )
    for at = 1, #page do
      found[#found + 1] = page[at]
    end
  end
  if #names > 1 then
    table.sort(found, function(one, other) return rank(one) < rank(other) end)
    for i = #found, limit + 1, -1 do
      found[i] = nil
    end
  end
  return found
end

-- Takes the first entries of these queues out, reserved for the caller; and notes that somebody serves
-- the queues. Entries of its own workflows, by id, are left for it to start. Writes at once: the caller
-- has nothing planned.
function M.take(call_, names, limit, own)
  take_back(call_)
  local served, now = {}, call.number(call_.ms)
  for i = 1, #names do
    served[2 * i - 1], served[2 * i] = now, names[i]
  end
  command("ZADD", call_.keys[keyslots.SERVED], unpack(served))
  local found = first_of(call_, names, limit)
  local taken, members, due = {}, {}, call.number(call_.ms + states.RESERVED_MS)
  for i = 1, #found do
    if not own[match(found[i], "|([^|]+)|[^|]+$")] then
      taken[#taken + 1] = found[i]
      members[#members + 1], members[#members + 2] = due, found[i]
    end
  end
  if #taken > 0 then
    command("ZREM", call_.keys[keyslots.READY], unpack(taken))
    command("ZADD", call_.keys[keyslots.RESERVED], unpack(members))
  end
  return found
end

return M
