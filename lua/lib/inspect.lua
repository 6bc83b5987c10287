-- What the records of workflows imply for their partition's derived keys, compared for a sweep: nothing is
-- written, and what differs is only marked. Entries of all workflows of a call are looked up together.
--
-- A flow is here {id, d, inserted, tally of its steps by the byte of their state, waits by step,
-- names of the steps that have some, callbacks, those open and dead, differs}.
local M = {}

local LOOKED_UP_AT_ONCE = 1000
local CODES = {} -- the bytes of the step states, in the order in which a header counts them
local AVAILABLE, EXECUTING, RETRYABLE = 97, 101, 114 -- "a", "e" and "r"
local WAIT, CALLBACK, OPEN = 126, 64, 111 -- "~", "@" and "o"
local SOON = true -- when a walk's timer should be due: in a while, but no longer than is set anew

-- What is looked up in one derived key: members, their scores, and whose they are.
local function entries()
  return { members = {}, scores = {}, owners = {}, n = 0 }
end

function M.begin(call_)
  for i = 1, #states.CODES do
    CODES[i] = byte(states.CODES[i])
  end
  return {
    call = call_, ready = entries(), timers = entries(), outbox = entries(),
    registered = {}, -- workflow, topic's name|key, member of its sorted set, ... of waits that a topic knows
  }
end

-- A workflow, by the fixed part of its header; nil when it is gone or of other semantics.
function M.open(w, d, static)
  local semantics, steps, inserted = match(static or "", "^(%d+),%d+,(%d+),(%d+),")
  if semantics ~= states.VERSION then
    return nil
  end
  return {
    id = keyslots.id(w), d = d, steps = tonumber(steps), inserted = tonumber(inserted), tally = {},
    callbacks = 0, open = 0, dead = 0,
  }
end

local function expect(list, flow, member, score)
  local n = list.n + 1
  list.n, list.members[n], list.scores[n], list.owners[n] = n, member, score, flow
end

-- What should have gone off a while ago is as good as no timer.
local function expect_timer(seen, flow, member, due)
  flow.differs = flow.differs or due + states.GRACE_MS <= seen.call.ms
  expect(seen.timers, flow, member, due)
end

function M.step(seen, flow, name, text)
  local state = byte(text)
  flow.tally[state] = (flow.tally[state] or 0) + 1
  if state == AVAILABLE then
    local order, class = match(text, "^a,%d+,%d*,(%x*),[^|]*|([^|]*)|")
    expect(seen.ready, flow, queue.member(flow, name, record.class(class), order))
  elseif state == EXECUTING then
    expect_timer(seen, flow, "l|" .. flow.id .. "|" .. name, flow.inserted + claims.expires(record.read(text)))
  elseif state == RETRYABLE then
    expect_timer(seen, flow, "r|" .. flow.id .. "|" .. name, flow.inserted + record.read(text).due)
  end
end

-- A wait that its topic was told of stands there, unless it is over.
function M.wait(seen, flow, name, text)
  local wait, found = waits.read(text), seen.registered
  flow.waits, flow.names = flow.waits or {}, flow.names or {}
  flow.waits[name] = wait
  flow.names[#flow.names + 1] = name
  if (wait.status == "w" or wait.status == "x") and not waits.untold(wait) then
    found[#found + 1], found[#found + 2] = flow.id, wait.topic
    found[#found + 1] = topic.member(wait.status, flow.id, wait.stamp, name, call.number(wait.n))
  end
end

function M.callback(seen, flow, number, text)
  local c = outbox.parse(number, text)
  flow.callbacks = flow.callbacks + 1
  flow.dead = flow.dead + (c.status == "x" and 1 or 0)
  if c.due ~= "" then
    flow.open = flow.open + 1
    expect(seen.outbox, flow, outbox.member(flow, number), flow.inserted + c.due)
  end
end

-- Any field of a workflow's hash, by its first byte.
function M.field(seen, flow, first, name, text)
  if first == WAIT then
    M.wait(seen, flow, sub(name, 2), text)
  elseif first == CALLBACK then
    M.callback(seen, flow, sub(name, 2), text)
  else
    M.step(seen, flow, name, text)
  end
end

-- The places of the waits that were found in the workflow's agenda.
function M.agenda(seen, flow)
  flow.differs = flow.differs or #waits.misplaced(seen.call, flow, flow.names) > 0
end

-- The timer of the agenda.
function M.wait_timer(seen, flow)
  local due = waits.next_due(flow)
  if due then
    expect_timer(seen, flow, waits.timer(flow), due)
  end
end

-- Whether the counts are those of the steps that were found.
local function is_counted(flow, by_state)
  local text, total = "", 0
  for i = 1, #CODES do
    local count = flow.tally[CODES[i]]
    if count then
      text = text .. states.CODES[i] .. call.number(count)
      total = total + count
    end
  end
  return text == by_state and total == flow.steps
end

local function is_open(tally)
  for i = 1, #CODES do
    if tally[CODES[i]] and not states.TERMINAL[states.CODES[i]] then
      return true
    end
  end
  return false
end

-- What the header says, and whether the workflow stands in the right group of the listing (its first byte);
-- counted is whether all steps were found.
function M.header(seen, flow, static, counts, group, counted)
  local by_state, rest = match(counts or "", "^(%w*);%d+,%d*,(.*)$")
  local right = OPEN
  if not by_state or (counted and not is_counted(flow, by_state)) then
    flow.differs = true
  elseif rest == "" then -- nothing but when the last change was, and the first start
    flow.differs = flow.differs or flow.callbacks > 0 or (counted and not is_open(flow.tally))
  else
    local h = header.read(static, counts)
    local ended = states.WORKFLOW_CODE[states.workflow_state(h)]
    right = ended and byte(ended) or OPEN
    if
      (h.finished ~= "") ~= (ended ~= nil) or h.callbacks ~= flow.callbacks or h.open ~= flow.open
      or h.dead ~= flow.dead
    then
      flow.differs = true
    end
    local removal = header.removal(h)
    if removal then
      expect_timer(seen, flow, header.removal_timer(flow), removal)
    end
    if h.head < h.tail then
      expect(seen.timers, flow, walk.timer(flow), SOON)
    end
  end
  flow.differs = flow.differs or group ~= right
end

local function scores(key, members)
  if #members <= LOOKED_UP_AT_ONCE then
    return #members > 0 and command("ZMSCORE", key, unpack(members)) or {}
  end
  local found = {}
  for from = 1, #members, LOOKED_UP_AT_ONCE do
    local some = command("ZMSCORE", key, unpack(members, from, min(from + LOOKED_UP_AT_ONCE - 1, #members)))
    for i = 1, #some do
      found[from + i - 1] = some[i]
    end
  end
  return found
end

local function is_right(score, right, now)
  if right == SOON then
    return score and now < score and score <= now + states.GRACE_MS
  end
  return score and (not right or score == right)
end

-- Compares entries with a key; what stands not there is looked for elsewhere, if there is such a key.
local function compare(seen, list, key, elsewhere)
  local found, missing = scores(key, list.members), entries()
  for i = 1, list.n do
    local flow, score = list.owners[i], tonumber(found[i] or nil)
    if not score and elsewhere then
      expect(missing, flow, list.members[i])
    elseif not is_right(score, list.scores[i], seen.call.ms) then
      flow.differs = true
    end
  end
  if missing.n > 0 then
    compare(seen, missing, elsewhere)
  end
end

-- Looks up what all workflows should have: each that lacks some differs.
function M.finish(seen)
  local keys = seen.call.keys
  compare(seen, seen.ready, keys[keyslots.READY], keys[keyslots.RESERVED])
  compare(seen, seen.timers, keys[keyslots.TIMERS])
  compare(seen, seen.outbox, keys[keyslots.OUTBOX])
end

return M
