-- Callbacks: messages to the user's service, written in the call that causes them.
-- The partition's outbox holds those that are pending or leased, "workflow|n" at the time when they are due: derived,
-- like the header's open and dead.
local M = {}
local OPEN = { p = 1, l = 1, d = 0, x = 0 }
local DEAD = { p = 0, l = 0, d = 0, x = 1 }

-- A callback's record, read once in a call, so that each part of the call sees the changes planned before.
local function opened(workflow, number, text)
  workflow.callbacks = workflow.callbacks or {}
  if text and not workflow.callbacks[number] then
    local c = codec.read_callback(text)
    c.number = number
    workflow.callbacks[number] = c
  end
  return workflow.callbacks[number]
end

-- The callback of this number, or nil.
function M.read(workflow, number)
  return opened(workflow, number, command("HGET", workflow.w, "@" .. number))
end

-- The first of these callbacks that is still to be delivered, or nil.
local function first_open(workflow, from, to)
  local fields = {}
  for number = from, to do
    fields[#fields + 1] = "@" .. integer.text(number)
  end
  local texts = #fields > 0 and command("HMGET", workflow.w, unpack(fields))
  for i = 1, #fields do
    local c = opened(workflow, integer.text(from + i - 1), texts[i])
    if c and OPEN[c.status] == 1 then
      return c
    end
  end
  return nil
end

-- The callback that must be delivered before this open one, or nil: among those shortly before it.
function M.open_before(workflow, c)
  if workflow.h.open < 2 then
    return nil
  end
  return first_open(workflow, max(1, c.number - states.CHUNK), c.number - 1)
end

-- The next callback, which has waited for this one, becomes due now that this one is over. One that was tried before
-- keeps its own time.
local function release_next(tx, workflow, c)
  local after = workflow.h.open > 0
    and first_open(workflow, c.number + 1, min(workflow.h.callbacks, c.number + states.CHUNK))
  if after and after.attempts == "0" and tonumber(after.due) > tonumber(workflow.since) then
    M.move(tx, workflow, after, "p", workflow.since)
  end
end

-- The part of evidence that names a dispatcher's claim by its token.
function M.item(number, token)
  return {
    action = "dispatch_callbacks", scope = "callback", step = "", number = number, call = token, note = "{}",
  }
end

function M.member(workflow, number)
  return workflow.id .. "|" .. number
end

-- The time of the callback's entry in the outbox, or false when it has none.
function M.score(workflow, c)
  return c.due ~= "" and integer.text(workflow.h.inserted + c.due)
end

-- Sets the outbox entry to the time in the record.
function M.place(tx, workflow, c)
  tx.outbox = tx.outbox or {}
  tx.outbox[M.member(workflow, c.number)] = M.score(workflow, c)
end

-- Removes an entry whose record is gone.
function M.drop(tx, workflow, number)
  tx.outbox = tx.outbox or {}
  tx.outbox[M.member(workflow, number)] = false
end

local function save(tx, workflow, c)
  transaction.set(workflow, "@" .. c.number, codec.write_callback(c))
  M.place(tx, workflow, c)
end

-- Plans a callback.
function M.write(tx, workflow, event, fields)
  local h = workflow.h
  h.callbacks, h.open = h.callbacks + 1, h.open + 1
  workflow.moved = true
  transaction.count(tx, states.CALLBACK_GAUGE.p, 1)
  save(tx, workflow, {
    number = integer.text(h.callbacks), event = states.EVENT_CODE[event], since = workflow.since, status = "p",
    attempts = "0", due = workflow.since, token = "", fields = fields,
  })
end

-- Gives a callback another status.
function M.move(tx, workflow, c, status, due)
  local h = workflow.h
  transaction.count(tx, states.CALLBACK_GAUGE[c.status], -1)
  transaction.count(tx, states.CALLBACK_GAUGE[status], 1)
  local open, dead = OPEN[status] - OPEN[c.status], DEAD[status] - DEAD[c.status]
  if open ~= 0 or dead ~= 0 then
    h.open, h.dead = h.open + open, h.dead + dead
    workflow.marked = true
  end
  if dead > 0 then
    transaction.remove(workflow, header.ACKNOWLEDGED)
  end
  c.status, c.due = status, due
  save(tx, workflow, c)
end

local function outcome(tx, c, what)
  transaction.count(tx, "cb|" .. states.EVENT_NAME[c.event] .. "|" .. what, 1)
end

function M.delivered(tx, workflow, c)
  outcome(tx, c, "delivered")
  M.move(tx, workflow, c, "d", "")
  release_next(tx, workflow, c)
end

-- Marks an undelivered callback as dead.
function M.give_up(tx, workflow, c, counted)
  if counted then
    outcome(tx, c, "dead")
  end
  M.move(tx, workflow, c, "x", "")
end

-- Removes all entries of a workflow.
function M.drop_all(tx, workflow)
  for number = 1, workflow.h.callbacks do
    M.drop(tx, workflow, integer.text(number))
  end
end

-- Notes a failure. The callback is due again after delay_ms, unless that was its last attempt. why is the error.
function M.failed(tx, workflow, item, c, delay_ms, why)
  outcome(tx, c, "failed")
  if tonumber(c.attempts) < states.CALLBACK_ATTEMPTS then
    M.move(tx, workflow, c, "p", integer.text(workflow.since + delay_ms))
    return
  end
  outcome(tx, c, "dead")
  M.move(tx, workflow, c, "x", "")
  release_next(tx, workflow, c)
  evidence.accept(
    tx, workflow, item, "accepted", "callback_dead",
    "callback " .. c.number .. " failed " .. c.attempts .. " times, at last " .. why
  )
end

-- Compares up to states.CHUNK callbacks from this number on with the outbox, and repairs the outbox. Returns how many
-- there are, and how many of them are open and dead.
function M.check(tx, workflow, first, repairs)
  local found, members, open, dead = {}, {}, 0, 0
  for number = first, first + states.CHUNK - 1 do
    local c = M.read(workflow, integer.text(number))
    if not c then
      break
    end
    found[#found + 1] = c
    members[#members + 1] = M.member(workflow, c.number)
    open, dead = open + OPEN[c.status], dead + DEAD[c.status]
  end
  local scores = #found > 0 and command("ZMSCORE", tx.keys[keyslots.OUTBOX], unpack(members))
  for i = 1, #found do
    local right, is = tonumber(M.score(workflow, found[i]) or nil), tonumber(scores[i] or nil)
    if right ~= is then
      M.place(tx, workflow, found[i])
      repairs[#repairs + 1] = { right and "callback_entry_missing" or "callback_entry_wrong", "" }
    end
  end
  return #found, open, dead
end

return M
