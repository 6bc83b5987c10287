-- The ready queue: one sorted set a partition, equal scores, read in the order of its members:
--   class|order|workflow|step      class = queue:urgency, order = round, microseconds, number
-- A round has up to states.ROUND_SHARE steps of one workflow and class, so that a backlog of one workflow delays the
-- first steps of another by no more than about as many (contract, section 8). A step joins the round of the first
-- entry of its class. When the class is empty it joins the latest round from which entries of its urgency were taken,
-- in any queue: so neither an empty queue nor the steps that a workflow has had before put it ahead of or behind
-- others.
--
-- A claimer cannot know which workflows' keys to declare before it has seen the entries. So it first reserves
-- entries, and starts their steps with another call. Meanwhile an entry is in a second sorted set, "reserved", with
-- the time when it goes back to the queue: nothing is lost when the claimer dies in between.
local M = {}

local ORDER = "%010x%013x%04x"
local ROUND_DIGITS, TIME_DIGITS = 10, 13

-- The part of an entry that orders it among those of other queues: urgency and order.
local function rank(member)
  return match(member, ":.*")
end

-- The field of the statistics that keeps the latest round of an urgency.
local function round_field(urgency)
  return "qr|" .. urgency
end

-- The latest round from which entries of an urgency were taken, before this call.
local function latest_round(tx, urgency)
  local rounds = tx.rounds
  if not rounds[urgency] then
    rounds[urgency] = tonumber(command("HGET", tx.keys[keyslots.STATS], round_field(urgency)) or nil) or 0
  end
  return rounds[urgency]
end

-- The round that a step joins. An empty class is noted: the step that comes into it wakes the workers.
local function present_round(tx, class)
  local round = tx.heads[class]
  if round then
    return round
  end
  local first = command(
    "ZRANGEBYLEX", tx.keys[keyslots.READY], "[" .. class .. "|", "(" .. class .. "}", "LIMIT", "0", "1"
  )[1]
  if first then
    round = tonumber(sub(first, #class + 2, #class + 1 + ROUND_DIGITS), 16)
  else
    round = latest_round(tx, match(class, "%d+$"))
    tx.woken = tx.woken or {}
    tx.woken[#tx.woken + 1] = class
  end
  tx.heads[class] = round
  return round
end

-- The position of the workflow's next step in a class, counted over all its steps there; the last one is in its field
-- ":tclass". A small workflow needs no count: its steps fit into the present round.
local function next_position(workflow, class)
  workflow.positions = workflow.positions or {}
  local last = workflow.positions[class]
  if not last then
    last = not workflow.created and command("HGET", workflow.w, ":t" .. class) or -1
  end
  return last + 1
end

local function round_for(tx, workflow, class)
  local round = present_round(tx, class)
  if workflow.h.steps <= states.ROUND_SHARE then
    return round
  end
  local position = max(next_position(workflow, class), round * states.ROUND_SHARE)
  workflow.positions[class] = position
  return floor(position / states.ROUND_SHARE)
end

function M.member(workflow, name, class, order)
  return class .. "|" .. order .. "|" .. workflow.id .. "|" .. name
end

-- Puts a step into the queue, at an order that it had before, if given; returns its order there.
function M.add(tx, workflow, name, class, order)
  if order then
    present_round(tx, class)
  else
    tx.serial = tx.serial + 1
    order = format(ORDER, round_for(tx, workflow, class), tx.us + 0, tx.serial)
  end
  tx.queued[M.member(workflow, name, class, order)] = true
  return order
end

local function take_out(tx, member)
  if tx.queued[member] then
    tx.queued[member] = nil -- it was added by this very call
  else
    tx.queued[member] = false
  end
end

function M.remove(tx, workflow, name, class, order)
  take_out(tx, M.member(workflow, name, class, order))
end

-- When a step came in that has this order (ms); nil where it is none.
function M.came_in(order)
  local micros = tonumber(sub(order, ROUND_DIGITS + 1, ROUND_DIGITS + TIME_DIGITS), 16)
  return micros and floor(micros / 1000)
end

-- The earlier of a time (ms), or nil, and the time when the step of an entry came in.
local function earlier(oldest, member)
  local order = match(member, "^[^|]+|(%x+)|")
  local came = order and M.came_in(order)
  return came and min(oldest or came, came) or oldest
end

local CLASSES_PER_CALL = 200
local RESERVED_PER_CALL = "100"

-- Since when the longest waiting of the classes' first steps has been available; nil when there are none. Looks at
-- some classes, from a bound on. Returns the bound to go on from, or false.
function M.oldest(tx, from)
  local oldest
  local reserved = command("ZRANGE", tx.keys[keyslots.RESERVED], "0", RESERVED_PER_CALL)
  for i = 1, #reserved do
    oldest = earlier(oldest, reserved[i])
  end
  for _ = 1, CLASSES_PER_CALL do
    local first = command("ZRANGEBYLEX", tx.keys[keyslots.READY], from, "+", "LIMIT", "0", "1")[1]
    if not first then
      return oldest, false
    end
    oldest = earlier(oldest, first)
    from = "(" .. match(first, "^[^|]*") .. "}"
  end
  return oldest, from
end

-- Entries whose reservation has run out.
local RETURNED_PER_CALL = "100"

local function take_back(tx)
  local left = command(
    "ZRANGEBYSCORE", tx.keys[keyslots.RESERVED], "-inf", integer.text(tx.ms), "LIMIT", "0", RETURNED_PER_CALL
  )
  for i = 1, #left do
    if tx.queued[left[i]] == nil then
      tx.queued[left[i]], tx.reserved[left[i]] = true, false
    end
  end
end

-- A cursor on one queue, or on the steps that this call puts into several. Its rank is that of its next entry, nil at
-- the end; in a queue that is alone entries are ranks themselves. Pages are smaller where there are many queues, so
-- that a call reads about as many entries.
local PAGE, ENTRIES_PER_CALL = 16, 500

local function advance(tx, cursor)
  if cursor.at == #cursor.page and cursor.from then
    cursor.page = command(
      "ZRANGEBYLEX", tx.keys[keyslots.READY], cursor.from, cursor.to, "LIMIT", "0", cursor.size
    )
    cursor.at, cursor.from = 0, #cursor.page == cursor.size and "(" .. cursor.page[cursor.size]
  end
  cursor.at = cursor.at + 1
  cursor.entry = cursor.page[cursor.at]
  cursor.rank = cursor.entry and (cursor.alone and cursor.entry or rank(cursor.entry))
end

-- The steps that this call puts into the queues, in the order in which they are to be claimed.
local function added(tx, names)
  local wanted, members, ranks, count = {}, {}, {}, 0
  for i = 1, #names do
    wanted[names[i]] = true
  end
  for member, is_added in pairs(tx.queued) do
    if is_added and wanted[match(member, "^[^:]+")] then
      count = count + 1
      ranks[count] = rank(member)
      members[ranks[count]] = member
    end
  end
  table.sort(ranks)
  for i = 1, count do
    ranks[i] = members[ranks[i]]
  end
  return ranks
end

local function cursors_on(tx, names, limit)
  local alone = #names == 1
  local size = max(min(PAGE, floor(ENTRIES_PER_CALL / #names)), 2)
  local cursors = { { page = added(tx, names), at = 0, alone = alone } }
  for i = 1, #names do
    cursors[i + 1] = {
      page = {}, at = 0, size = alone and limit or size, alone = alone,
      from = "[" .. names[i] .. ":", to = "(" .. names[i] .. ";",
    }
  end
  for i = 1, #cursors do
    advance(tx, cursors[i])
  end
  return cursors
end

-- The first entries of these queues as this call leaves them, in the order in which they are to be claimed.
local function first_of(tx, names, limit)
  local cursors, found = cursors_on(tx, names, limit), {}
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
    if tx.queued[first.entry] ~= false then
      found[#found + 1] = first.entry
    end
    advance(tx, first)
  end
  return found
end

-- Forgets queues that nobody has asked for in a long time and, where there are too many, those asked for longest ago.
local FORGOTTEN_PER_CALL = 300

local function forget_unserved(tx)
  local served = tx.keys[keyslots.SERVED]
  local old = command(
    "ZRANGEBYSCORE", served, "-inf", integer.text(tx.ms - states.SERVED_KEPT_MS), "LIMIT", "0", FORGOTTEN_PER_CALL
  )
  local over = min(command("ZCARD", served) - states.SERVED_KEPT, FORGOTTEN_PER_CALL)
  if over > #old then
    old = command("ZRANGE", served, "0", integer.text(over - 1))
  end
  for i = 1, #old do
    tx.served[old[i]] = tx.served[old[i]] or false
  end
end

-- Notes that the queues are served, unless that was noted lately; also when the noted time lies ahead, as after a
-- clock was set back.
local function note_served(tx, names)
  local noted = command("ZMSCORE", tx.keys[keyslots.SERVED], unpack(names))
  for i = 1, #names do
    local at = noted[i] and noted[i] + 0
    if not at or at + states.SERVED_NOTED_MS < tx.ms or at > tx.ms + states.SERVED_NOTED_MS then
      tx.served[names[i]] = integer.text(tx.ms)
    end
  end
  if next(tx.served) then
    forget_unserved(tx)
  end
end

-- Notes the latest round from which entries of each urgency were taken.
local function note_rounds(tx, latest)
  for urgency, order in pairs(latest) do
    local ahead = tonumber(sub(order, 1, ROUND_DIGITS), 16) - latest_round(tx, urgency)
    transaction.count(tx, round_field(urgency), max(ahead, 0))
  end
end

-- The queues' first entries, for a claimer that decides from which partition to take some.
function M.peek(tx, names, limit)
  tx.reserved, tx.served = {}, {}
  take_back(tx)
  note_served(tx, names)
  return first_of(tx, names, limit)
end

-- Takes the first entries of these queues, reserved for the caller; those of its own workflows (workflows by id) are
-- left for it to start. Returns the entries, and for each the argument that dispatch.start takes, or false.
function M.take(tx, names, limit, workflows)
  tx.reserved, tx.served = {}, {}
  take_back(tx)
  note_served(tx, names)
  local found, own = first_of(tx, names, limit), {}
  local latest, due, reserved = {}, integer.text(tx.ms + states.RESERVED_MS), tx.reserved
  for i = 1, #found do
    local member = found[i]
    local urgency, order, id = match(member, ":(%d+)|(%x+)|([^|]+)|")
    local workflow = workflows[id]
    latest[urgency] = order -- workflows come in this order
    if workflow then
      local place, step = match(member, "^([^|]+|%x+)|[^|]+|(.*)$")
      own[i] = { workflow = workflow, step = step, place = place }
    else
      own[i] = false
      take_out(tx, member)
      reserved[member] = due
    end
  end
  note_rounds(tx, latest)
  return found, own
end

local TAKEN_OUT_MOST = "499"

-- The entries that claimers have reserved, as far as they are counted: how many of a queue, and its first.
function M.taken_out(keys)
  local count, first = {}, {}
  local entries = command("ZRANGE", keys[keyslots.RESERVED], "0", TAKEN_OUT_MOST)
  for i = 1, #entries do
    local name = match(entries[i], "^[^:]+")
    count[name] = (count[name] or 0) + 1
    if not first[name] or entries[i] < first[name] then
      first[name] = entries[i]
    end
  end
  return count, first
end

-- The first of two entries, of which either may be missing.
local function first_of_two(one, other)
  return one and other and (one < other and one or other) or one or other or false
end

-- A queue as clients get it: {name, waiting steps, the first of them or false, when somebody last asked or false};
-- reserved steps count as waiting.
function M.describe(keys, name, taken, first_taken)
  local ready, from, to = keys[keyslots.READY], "[" .. name .. ":", "(" .. name .. ";"
  return {
    name, integer.text(command("ZLEXCOUNT", ready, from, to) + (taken or 0)),
    first_of_two(command("ZRANGEBYLEX", ready, from, to, "LIMIT", "0", "1")[1], first_taken),
    command("ZSCORE", keys[keyslots.SERVED], name),
  }
end

return M
