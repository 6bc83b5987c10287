-- Steps that wait for a signal, or for the end of a child workflow. The record of a wait belongs to its workflow. Its
-- topic, the pair of signal and correlation key, may be in another partition, and is notified by the client (topic.lua);
-- so is a child (links.lua).
--
-- The wait notices, a sorted set, are derived from these. Its members are waiting steps with a deadline, scored by
-- that time (ms); and "!step" where a topic or a child is still to be notified, and "!^" where the workflow is itself a
-- child whose parent is, scored by the time from which any client may do that, less OFFSET so that these come first.
-- The partition's timers hold "w|workflow" at the time of the first of all.
local M = {}
local NONE = {}

local OFFSET = 1e15
local RANK = { [""] = 0, w = 1, x = 2, g = 3, r = 3 }
local WANTED = { w = "w", x = "x", r = "r", f = "r", y = "g", a = "g" }
local STATUS_NAME = { x = "expired", y = "expired", a = "abandoned" }
local MESSAGE = { x = "wait %d has expired", y = "wait %d has timed out", a = "wait %d was abandoned" }
local REASON = { x = "expired_wait", y = "timed_out_wait", a = "abandoned_wait" }

-- The change that the wait's topic is to be notified of, or nil when it knows.
function M.unacked(wait)
  local wanted = WANTED[wait.status]
  return RANK[wait.acked] < RANK[wanted] and wanted or nil
end

-- Loads the latest waits of these steps with one read; most workflows never have any.
function M.load(workflow, names)
  workflow.waits = workflow.waits or {}
  local missing = {}
  for i = 1, #names do
    if workflow.waits[names[i]] == nil then
      missing[#missing + 1] = "~" .. names[i]
    end
  end
  if #missing > 0 then
    local found = workflow.waited and command("HMGET", workflow.w, unpack(missing)) or NONE
    for i = 1, #missing do
      workflow.waits[sub(missing[i], 2)] = found[i] and codec.read_wait(found[i]) or false
    end
  end
end

-- The step's latest wait, or false.
function M.latest(workflow, name)
  M.load(workflow, { name })
  return workflow.waits[name]
end

-- One of the step's waits, or nil.
function M.numbered(workflow, name, n)
  local wait = M.latest(workflow, name)
  if not wait or wait.n == n then
    return wait or nil
  end
  local text = command("HGET", workflow.p, "a:" .. name .. ":" .. integer.text(n))
  return text and codec.read_wait(text) or nil
end

-- Plans the writing of the step's latest wait, and of its wait notices.
local function keep(tx, workflow, name, wait)
  workflow.waits[name] = wait
  transaction.set(workflow, "~" .. name, codec.write_wait(wait))
  M.place(tx, workflow, name, wait)
end

-- When the wait's deadline passes, in whole milliseconds; nil without one.
local function due_ms(wait)
  return wait.deadline ~= "" and -floor(-wait.deadline / 1000) or nil
end

-- The score of a notice that is still to be given.
local function untold(tx)
  return integer.text(tx.ms + states.GRACE_MS - OFFSET)
end

-- The scores that the wait's two notices should have; false for a notice that should not exist.
local function places(tx, wait)
  local waiting = wait and wait.status == "w" and due_ms(wait)
  local unacked = wait and (wait.left ~= "" or M.unacked(wait))
  return waiting and integer.text(waiting) or false, unacked and untold(tx) or false
end

function M.place(tx, workflow, name, wait)
  workflow.notices = workflow.notices or {}
  workflow.notices[name], workflow.notices["!" .. name] = places(tx, wait)
end

-- Has the child's notice for its parent follow what this call has made of the child.
function M.place_link(tx, workflow)
  workflow.notices = workflow.notices or {}
  workflow.notices[links.MEMBER] = links.has_news(workflow) and untold(tx) or false
end

-- Whether that notice stands where it should.
function M.has_link_placed(workflow)
  local stands = command("ZSCORE", keyslots.other(workflow.w, "d"), links.MEMBER)
  return links.has_news(workflow) == (stands and true)
end

-- The score that the waits imply for a wait notice, or false; and whether it may have an earlier one.
function M.implied(tx, workflow, member)
  if member == links.MEMBER then
    return links.has_news(workflow) and untold(tx), true
  end
  local is_notice = byte(member) == 33
  local waiting, unacked = places(tx, M.latest(workflow, is_notice and sub(member, 2) or member))
  return is_notice and unacked or not is_notice and waiting, is_notice
end

-- The outcome of one of a step's waits as its topic is to be notified of it, with the wait's stamp and signal.
function M.fate(workflow, name, n)
  local wait = M.numbered(workflow, name, n)
  return wait and WANTED[wait.status] or "g", wait and wait.stamp or "0", wait and wait.signal_id or ""
end

local function note(tx, workflow, name, wait)
  local item = {
    action = links.child(wait) and "start_child" or "await_step", scope = "step", step = name, call = "",
    note = '{"source":"server","wait":' .. integer.text(wait.n) .. "}",
  }
  local message = format(MESSAGE[wait.status], wait.n)
  evidence.accept(tx, workflow, item, STATUS_NAME[wait.status], REASON[wait.status], message)
end

-- Makes a step that has left its old place wait, in place of its last wait.
function M.begin(tx, workflow, name, wait)
  local before = M.latest(workflow, name)
  wait.n, wait.left = 1, ""
  if before then
    wait.n, wait.left = before.n + 1, before.left
    if M.unacked(before) then
      wait.left = before.left .. (before.left == "" and "" or "+") .. integer.text(before.n)
    end
    before.left = ""
    local field = "a:" .. name .. ":" .. integer.text(before.n)
    workflow.rows[#workflow.rows + 1] = field
    workflow.rows[#workflow.rows + 1] = codec.write_wait(before)
    workflow.unset = workflow.unset or {} -- the payload of the signal that woke the step before
    workflow.unset[#workflow.unset + 1] = "s:" .. name
  else
    transaction.set(workflow, transaction.ANY_WAIT, "1")
    workflow.waited = "1"
  end
  if wait.lease ~= "" then
    workflow.rows[#workflow.rows + 1] = "l:" .. name .. ":" .. wait.lease
    workflow.rows[#workflow.rows + 1] = integer.text(wait.n)
  end
  keep(tx, workflow, name, wait)
end

local function close(tx, workflow, name, status)
  local wait = M.latest(workflow, name)
  wait.status, wait.resolved = status, tx.us
  keep(tx, workflow, name, wait)
  note(tx, workflow, name, wait)
end

-- Ends the wait of a step that leaves it other than by its signal or its deadline.
function M.abandon(tx, workflow, name)
  close(tx, workflow, name, "a")
end

-- Ends the wait, as its deadline has passed.
function M.expire(tx, workflow, name)
  close(tx, workflow, name, "x")
end

-- Whether a wait's step goes on once its deadline has passed.
function M.goes_on(wait)
  return byte(wait.asked, -1) == 62
end

-- Whether the step has gone on after its deadline.
function M.has_timed_out(wait)
  return wait.status == "y" and M.goes_on(wait)
end

-- Ends the wait, as its deadline has passed, and lets its step go on.
function M.time_out(tx, workflow, name)
  close(tx, workflow, name, "y")
end

-- A recovery places an expired step anew. Its latest wait stays on record: `retry` keeps the signal that woke a step.
function M.revive(tx, workflow, name)
  local wait = M.latest(workflow, name)
  if wait.status == "x" then
    wait.status = "y"
    keep(tx, workflow, name, wait)
  end
end

-- Ends the step's wait: a signal has come.
function M.resolve(tx, workflow, name, signal, payload)
  local wait = M.latest(workflow, name)
  wait.status, wait.resolved, wait.signal_id = "r", tx.us, signal
  keep(tx, workflow, name, wait)
  workflow.rows[#workflow.rows + 1] = "s:" .. name
  workflow.rows[#workflow.rows + 1] = payload
  return wait
end

-- The step's wait is over: its child has ended, and the step with it.
function M.end_with_child(tx, workflow, name, completed)
  local wait = M.latest(workflow, name)
  wait.status, wait.resolved, wait.acked = completed and "r" or "f", tx.us, "r"
  keep(tx, workflow, name, wait)
end

-- Notes that the topic of a wait was notified; a later outcome on record is kept.
function M.ack(tx, workflow, name, n, acked)
  if "!" .. name == links.MEMBER then
    M.place_link(tx, workflow)
    return
  end
  local wait = M.latest(workflow, name)
  if not wait then
    M.place(tx, workflow, name, false)
    return
  end
  if wait.n == n then
    if RANK[acked] > RANK[wait.acked] then
      wait.acked = acked
    end
  elseif RANK[acked] == RANK.g then
    local left = {}
    for other in gmatch(wait.left, "%d+") do
      if tonumber(other) ~= n then
        left[#left + 1] = other
      end
    end
    wait.left = concat(left, "+")
  end
  keep(tx, workflow, name, wait)
end

-- The changes that the topics of a step's waits are to be notified of: appends {step, n, outcome, stamp, signal,
-- name|key} for each. With known, also of a wait that its topic knows, to notify it again.
function M.list(workflow, name, known, found)
  local wait = M.latest(workflow, name)
  for n in gmatch(wait and wait.left or "", "%d+") do
    local earlier = M.numbered(workflow, name, tonumber(n))
    found[#found + 1] = { name, n, WANTED[earlier.status], earlier.stamp, earlier.signal_id, earlier.topic, "" }
  end
  local unacked = wait and M.unacked(wait)
  if unacked or (wait and known and (wait.status == "w" or wait.status == "x")) then
    found[#found + 1] = {
      name, integer.text(wait.n), WANTED[wait.status], wait.stamp, wait.signal_id, wait.topic,
      unacked and "" or "1",
    }
  end
end

-- Whether a step, by its record's text, is shown together with its latest wait.
function M.is_shown(text)
  local state = codec.step_state(text)
  return state == "w" or state == "t"
end

-- That wait, or false.
function M.shown(workflow, name, text)
  local wait = M.is_shown(text) and M.latest(workflow, name)
  return wait and codec.write_wait(wait)
end

-- Whether a lease of the step has ended in a wait.
function M.has_lease(workflow, name, lease)
  return command("HEXISTS", workflow.p, "l:" .. name .. ":" .. lease) == 1
end

-- Those of some steps with waits whose wait notices are not as they should be.
function M.misplaced(tx, workflow, names)
  local members, found = {}, {}
  for i = 1, #names do
    members[2 * i - 1], members[2 * i] = names[i], "!" .. names[i]
  end
  local scores = command("ZMSCORE", keyslots.other(workflow.w, "d"), unpack(members))
  for i = 1, #names do
    local due, unacked = places(tx, workflow.waits[names[i]])
    local same = tonumber(scores[2 * i - 1] or -1) == tonumber(due or -1)
    if not same or (not scores[2 * i]) ~= (not unacked) then
      found[#found + 1] = names[i]
    end
  end
  return found
end

-- When the first wait notice is due, in milliseconds; nil when there is none.
function M.next_due(workflow)
  local first = command("ZRANGE", keyslots.other(workflow.w, "d"), "0", "0", "WITHSCORES")
  if not first[1] then
    return nil
  end
  local due = tonumber(first[2])
  if due < 0 then
    local deadline = command("ZRANGEBYSCORE", keyslots.other(workflow.w, "d"), "0", "+inf", "WITHSCORES", "LIMIT", "0", "1")
    due = min(due + OFFSET, tonumber(deadline[2]) or due + OFFSET)
  end
  return due
end

function M.timer(workflow)
  return "w|" .. workflow.id
end

-- Writes the planned notices; called by flush only.
function M.commit(tx, workflow)
  transaction.write_members(keyslots.other(workflow.w, "d"), workflow.notices)
  local due = M.next_due(workflow)
  tx.timers = tx.timers or {}
  tx.timers[M.timer(workflow)] = due and integer.text(due) or false
end

-- "1" while topics, children or the parent of the workflow are still to be notified, else "".
function M.flag(workflow)
  local first = (workflow.waited or workflow.link) and command("ZRANGE", keyslots.other(workflow.w, "d"), "0", "0")[1]
  return first and byte(first) == 33 and "1" or ""
end

return M
