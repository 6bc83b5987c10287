-- The ready queue: one sorted set a partition, equal scores, read in the order of its members:
--   class|order|workflow|step      class = queue:urgency, order = round, microseconds, number
-- A round takes up to states.ROUND_SHARE steps of one workflow and class, so that a backlog of one
-- workflow delays the first steps of another by about as many (SPEC section 8). What comes into a class
-- joins the round of its first entry. Into an empty one it joins the latest round that entries of its
-- urgency were taken of, in any queue: so neither an empty queue nor what a workflow has had before puts
-- it ahead of or behind others.
--
-- A claimer first takes entries out, whose workflows' keys its call cannot have declared, and then
-- starts their steps. Until that, an entry stands in a second sorted set, "reserved", at the time when
-- it goes back for others: nothing is lost when the claimer dies in between.
local M = {}

local ORDER = "%010x%013x%04x"
local ROUND_DIGITS = 10

-- What orders an entry among those of other queues: urgency and order.
local function rank(member)
  return match(member, ":.*")
end

-- The field of the statistics that keeps the latest round of an urgency.
local function round_field(urgency)
  return "qr|" .. urgency
end

-- The round that a step joins. A class that is empty is noted: whoever puts a step into it wakes the
-- workers.
local function present_round(call_, class)
  local round = call_.heads[class]
  if round then
    return round
  end
  local first = command(
    "ZRANGEBYLEX", call_.keys[keyslots.READY], "[" .. class .. "|", "(" .. class .. "}", "LIMIT", "0", "1"
  )[1]
  if first then
    round = tonumber(sub(first, #class + 2, #class + 1 + ROUND_DIGITS), 16)
  else
    round = tonumber(command("HGET", call_.keys[keyslots.STATS], round_field(match(class, "%d+$"))) or 0)
    call_.woken = call_.woken or {}
    call_.woken[#call_.woken + 1] = class
  end
  call_.heads[class] = round
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

-- Puts a step into the queue, at an order that it had before, if given; returns its order there.
function M.add(call, flow, name, class, order)
  if order then
    present_round(call, class)
  else
    call.serial = call.serial + 1
    order = format(ORDER, round_for(call, flow, class), call.us + 0, call.serial)
  end
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

-- Reads on in one queue; rank is that of its next entry, nil at the end.
local PAGE = 16

local function advance(call_, cursor)
  if cursor.at == #cursor.page and cursor.at % PAGE == 0 then
    cursor.page = command(
      "ZRANGEBYLEX", call_.keys[keyslots.READY], cursor.from, cursor.to, "LIMIT", "0", PAGE
    )
    cursor.at, cursor.from = 0, "(" .. (cursor.page[#cursor.page] or "")
  end
  cursor.at = cursor.at + 1
  cursor.entry = cursor.page[cursor.at]
  cursor.rank = cursor.entry and rank(cursor.entry)
end

-- The first entries of several queues, in the order in which they are to be claimed.
local function merge(call_, names, limit)
  local cursors, found = {}, {}
  for i = 1, #names do
    cursors[i] = { page = {}, at = 0, from = "[" .. names[i] .. ":", to = "(" .. names[i] .. ";" }
    advance(call_, cursors[i])
  end
  while #found < limit do
    local first
    for i = 1, #cursors do
      local cursor = cursors[i]
      if cursor.rank and (not first or cursor.rank < first.rank) then
        first = cursor
      end
    end
    if not first then
      break
    end
    found[#found + 1] = first.entry
    advance(call_, first)
  end
  return found
end

local function first_of(call_, names, limit)
  if #names > 1 then
    return merge(call_, names, limit)
  end
  return command(
    "ZRANGEBYLEX", call_.keys[keyslots.READY], "[" .. names[1] .. ":", "(" .. names[1] .. ";",
    "LIMIT", "0", limit
  )
end

-- Notes that somebody serves the queues, unless that was noted lately.
local function note_served(call_, names)
  local served, notes = call_.keys[keyslots.SERVED], {}
  local noted = command("ZMSCORE", served, unpack(names))
  for i = 1, #names do
    if not noted[i] or noted[i] + states.SERVED_NOTED_MS < call_.ms then
      notes[#notes + 1], notes[#notes + 2] = call.number(call_.ms), names[i]
    end
  end
  if #notes > 0 then
    command("ZADD", served, unpack(notes))
  end
end

-- Notes the latest round of each urgency that entries are taken of.
local function note_rounds(call_, found)
  local stats, latest = call_.keys[keyslots.STATS], {}
  for i = 1, #found do
    local urgency, order = match(found[i], "^[^:]*:(%d+)|(%x+)")
    if order > (latest[urgency] or "") then
      latest[urgency] = order
    end
  end
  for urgency, order in pairs(latest) do
    local field, number = round_field(urgency), tonumber(sub(order, 1, ROUND_DIGITS), 16)
    if number > tonumber(command("HGET", stats, field) or 0) then
      command("HSET", stats, field, call.number(number))
    end
  end
end

-- Takes the first entries of these queues out, reserved for the caller; and notes that somebody serves
-- the queues. Entries of its own workflows, by id, are left for it to start. Writes at once: the caller
-- has nothing planned.
function M.take(call_, names, limit, own)
  take_back(call_)
  note_served(call_, names)
  local found = first_of(call_, names, limit)
  note_rounds(call_, found)
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
