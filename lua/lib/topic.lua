-- A topic: a signal's name and a correlation key, in its home partition. It knows the signals that came and the steps
-- that wait for one, and decides which signal goes to which wait.
--
-- Its hash is the record of truth: the topic's own record, its signals, and its registrations of waits (codec.lua).
-- Its sorted set is derived from these, and read by the order of its members:
--   w|W|stamp|S|n and x|W|stamp|S|n     waits, waiting and expired
-- The partition's timers hold "s|digest": while a hand-off is outstanding, the time to repeat it, else the time when
-- the oldest kept signal is to be dropped.
local M = {}

local SKIPPED_PER_CALL, NOTED_PER_CALL = 100, 100
local REASON = { ambiguous = "ambiguous_signal", late = "late_signal" }
local STAMP_PER_MS = -8 -- a stamp without its last seven digits is in milliseconds
local RANK = { w = 1, x = 2, g = 3, r = 3 }
local OVER = { g = true, r = true }
local RECORD_ALONE = 2 -- a field and its value: the topic's name is the only field to set

-- Opens a topic. Keys are the partition's, then the topic's; with a place, one of several topics. Without a name, the
-- name is taken from the topic's record, if there is one.
function M.open(tx, name, key, place)
  local at = keyslots.FIRST_WORKFLOW + 2 * ((place or 1) - 1)
  local hash = tx.keys[at]
  local text = command("HGET", hash, ":")
  local kept = text and codec.read_topic(text)
  local t = {
    hash = hash, set = tx.keys[at + 1], digest = match(hash, ":sig:(%x+)$"),
    first = tx.us + 1, last = tonumber(tx.us), counted = tonumber(tx.us), handed = false,
    topic = name and name .. "|" .. key or kept and kept.name, more = kept and kept.more or "",
    fields = {}, members = {}, gone = {}, moved = false, expired = 0,
  }
  if kept then
    t.first, t.last, t.counted = kept.first, kept.last, kept.counted
    t.handed = kept.handed ~= ""
      and { number = tonumber(kept.handed), workflow_id = kept.workflow_id, step = kept.step, n = kept.n }
  end
  return t
end

-- One of its signals as stored, or nil.
function M.signal(t, number)
  local planned = t.signals and t.signals[number]
  if planned ~= nil then
    return planned or nil
  end
  local text = command("HGET", t.hash, "s" .. integer.text(number))
  if not text then
    return nil
  end
  local signal = codec.read_signal(text)
  signal.number = number
  return signal
end

local function put(t, field, value)
  t.fields[#t.fields + 1] = field
  t.fields[#t.fields + 1] = value
  t.moved = true
end

-- Plans the removal of a field.
local function drop(t, field)
  t.gone[#t.gone + 1] = field
  t.moved = true
end

local function put_signal(t, signal)
  t.signals = t.signals or {}
  t.signals[signal.number] = signal
  put(t, "s" .. integer.text(signal.number), codec.write_signal(signal))
end

-- Plans a new signal; returns it.
function M.add(tx, t, id, actor, dedupe, payload)
  t.last = t.last + 1
  local signal = {
    number = t.last, status = "k", stamp = transaction.stamp(tx), call = id, actor = actor, workflow_id = "",
    step = "", n = "", dedupe = dedupe,
  }
  put_signal(t, signal)
  put(t, "d" .. dedupe, integer.text(t.last))
  if payload then
    put(t, "p" .. integer.text(t.last), payload)
    t.payload = payload
  end
  return signal
end

-- Plans that a signal was consumed by a wait, once.
function M.consume(tx, t, number, workflow_id, step, n)
  local signal = M.signal(t, number)
  if signal and signal.status == "k" then
    signal.status, signal.workflow_id, signal.step, signal.n = "c", workflow_id, step, n
    put_signal(t, signal)
    transaction.count(tx, "sg|consumed", 1)
  end
end

local function remove(t, signal)
  local number = integer.text(signal.number)
  drop(t, "s" .. number)
  drop(t, "p" .. number)
  drop(t, "d" .. signal.dedupe)
  t.signals = t.signals or {}
  t.signals[signal.number] = false
end

-- Plans the removal of a kept signal that is withdrawn, and of its dedupe record. The signals behind it must have
-- been judged before: judging goes by consecutive numbers.
function M.withdraw(tx, t, signal)
  remove(t, signal)
  transaction.count(tx, "sg|withdrawn", 1)
end

-- Plans the removal of a signal that this workflow has consumed.
function M.remove(t, number, workflow_id)
  local signal = M.signal(t, number)
  if signal and signal.status == "c" and signal.workflow_id == workflow_id then
    remove(t, signal)
  end
end

function M.member(state, workflow_id, stamp, step, n)
  return state .. "|" .. workflow_id .. "|" .. stamp .. "|" .. step .. "|" .. n
end

-- The member of the set for a registration: nil for a wait that is over.
function M.registration(field, text)
  local workflow_id, step = match(field, "^l(.*)|(.*)$")
  local n, state, stamp = codec.known_wait(text)
  if workflow_id and RANK[state] and not OVER[state] then
    return M.member(state, workflow_id, stamp, step, n), workflow_id, step, n, state
  end
  return nil
end

-- Whether the topic's record implies a member of the set.
function M.implies(t, place)
  local workflow_id, step = match(place, "^%a|([^|]+)|%d+|([^|]+)|%d+$")
  local field = workflow_id and "l" .. workflow_id .. "|" .. step
  return field and M.registration(field, command("HGET", t.hash, field) or "") == place
end

function M.timer(t)
  return "s|" .. t.digest
end

-- Plans a wait's state: "w", "x", "r" or "g". Returns whether that was news. A wait that is_open by its workflow's
-- record becomes so here whatever the topic knew, as a failover has taken the workflow back.
function M.set_wait(t, state, workflow_id, step, n, stamp, is_open)
  local field = "l" .. workflow_id .. "|" .. step
  local known = command("HGET", t.hash, field)
  local last, was, before = codec.known_wait(known or "")
  local age = tonumber(last or 0) - tonumber(n)
  if not is_open and (age > 0 or (age == 0 and RANK[was] > RANK[state])) then
    return false
  end
  local place = not OVER[state] and M.member(state, workflow_id, stamp, step, n)
  if age == 0 and RANK[was] == RANK[state] and (not place or command("ZSCORE", t.set, place)) then
    return false
  end
  if RANK[was] and not OVER[was] then -- otherwise nothing is known, or the record is corrupt
    t.members[M.member(was, workflow_id, before, step, last)] = false
  end
  if place then
    t.members[place] = true
  end
  local more = age == 0 and known and codec.read_known(known).more
  put(t, field, codec.write_known({ n = n, state = state, stamp = stamp, more = more or "" }))
  return true
end

local function payload(t, number)
  return number == t.last and t.payload or command("HGET", t.hash, "p" .. integer.text(number))
end

-- A hand-off for a client to carry out: {number, workflow, step, n, payload, who has delivered the signal}.
function M.hand_off(t, number, workflow_id, step, n)
  return { integer.text(number), workflow_id, step, n, payload(t, number), M.signal(t, number).actor }
end

-- The signal that this wait has consumed, as a hand-off to be repeated; or false.
function M.taken(t, workflow_id, step, n)
  local last, state, number = codec.known_wait(command("HGET", t.hash, "l" .. workflow_id .. "|" .. step) or "")
  if state ~= "r" or last ~= n or not M.signal(t, tonumber(number)) then
    return false
  end
  return M.hand_off(t, tonumber(number), workflow_id, step, n)
end

-- Plans to forget all of a step's waits, as its workflow is gone. Returns whether there were any.
function M.forget(t, workflow_id, step)
  local field = "l" .. workflow_id .. "|" .. step
  local known = command("HGET", t.hash, field)
  if known then
    local n, state, stamp = codec.known_wait(known or "")
    if RANK[state] and not OVER[state] then
      t.members[M.member(state, workflow_id, stamp, step, n)] = false
    end
    drop(t, field)
  end
  return known and true
end

-- Ends the outstanding hand-off if it is to this wait, whose outcome is known.
function M.settle(t, workflow_id, step, n)
  local handed = t.handed
  if handed and handed.workflow_id == workflow_id and handed.step == step and handed.n == n then
    t.handed = false
    t.moved = true
  end
end

-- The first or the last wait of a kind, this call's plan included; nil when there is none.
local function edge(t, kind, last)
  local gone, verb, from, to = 0, "ZRANGEBYLEX", "[" .. kind .. "|", "(" .. kind .. "}"
  if last then
    verb, from, to = "ZREVRANGEBYLEX", to, from
  end
  for _, stays in pairs(t.members) do
    gone = gone + (stays and 0 or 1)
  end
  local found, best = command(verb, t.set, from, to, "LIMIT", "0", integer.text(gone + 1)), nil
  for i = #found, 1, -1 do
    if t.members[found[i]] ~= false then
      best = found[i]
    end
  end
  for place, stays in pairs(t.members) do
    if stays and byte(place) == byte(kind) and (not best or (place < best) ~= last) then
      best = place
    end
  end
  return best
end

-- The status of a kept signal that cannot be handed over now: late, unmatched, ambiguous; or recorded, when one
-- workflow waits.
function M.verdict(t)
  local first = edge(t, "w", false)
  if not first then
    return edge(t, "x", false) and "late" or "unmatched"
  end
  local workflow_id = "^w|([^|]+)|"
  return match(first, workflow_id) ~= match(edge(t, "w", true), workflow_id) and "ambiguous" or "recorded"
end

-- When a kept signal is to be dropped, in milliseconds.
local function end_ms(signal)
  return sub(signal.stamp, 1, STAMP_PER_MS) + states.SIGNAL_KEPT_MS
end

-- Moves past consumed signals, and drops kept ones whose time is over.
local function skip(tx, t)
  for _ = 1, SKIPPED_PER_CALL do
    if t.first > t.last then
      return
    end
    local signal = M.signal(t, t.first)
    if signal and signal.status == "k" then
      if end_ms(signal) > tx.ms then
        return
      end
      remove(t, signal)
      t.expired = t.expired + 1
    end
    t.first = t.first + 1
    t.moved = true
  end
end

-- A percent-quoted text as a JSON string.
local function json(quoted)
  return '"' .. string.gsub(quoted, "%%(%x%x)", function(hex)
    local code = tonumber(hex, 16)
    local special = code < 32 or code == 34 or code == 92
    return special and format("\\u%04x", code) or string.char(code)
  end) .. '"'
end

-- Records evidence of a kept signal that is meant for a step.
local function leave_evidence(tx, t, number, found)
  local name, key = match(t.topic, "^([^|]*)|(.*)$")
  local signal = M.signal(t, number)
  evidence.log(tx, {
    action = "deliver_signal", scope = "signal", step = "", call = "",
    note = '{"source":"server","signal":"' .. name .. '","correlation_key":' .. json(key)
      .. ',"dedupe_key":' .. json(signal.dedupe)
      .. (signal.actor ~= "" and ',"actor":' .. json(signal.actor) or "") .. "}",
  }, found, REASON[found], "")
end

-- Notes the first verdict on kept signals: in the statistics, and as evidence when one is late or ambiguous.
local function note_first(tx, t, found)
  local from = max(t.first, t.counted + 1)
  local last = min(t.last, from + NOTED_PER_CALL - 1)
  transaction.count(tx, "sg|" .. found, last - from + 1)
  for number = from, REASON[found] and last or 0 do
    leave_evidence(tx, t, number, found)
  end
  t.counted = last
  t.moved = true
end

-- Hands the oldest kept signal to the oldest wait of the only workflow that waits, if there are these and no hand-off
-- is outstanding. Otherwise notes, once for each kept signal, why it is kept.
function M.judge(tx, t)
  if t.handed then
    return
  end
  skip(tx, t)
  local found = t.first <= t.last and M.verdict(t)
  if found == "recorded" then
    local workflow_id, step, n = match(edge(t, "w", false), "^w|([^|]+)|%d+|([^|]+)|(%d+)$")
    t.handed = { number = t.first, workflow_id = workflow_id, step = step, n = n }
    t.moved = true
  elseif found and t.counted < t.last then
    note_first(tx, t, found)
  end
end

-- A signal's status.
function M.status(t, signal)
  if signal.status == "c" then
    return "consumed"
  end
  return t.handed and t.handed.number == signal.number and "recorded" or M.verdict(t)
end

-- A signal as a client gets it: {number, status, workflow, step, stamp, dedupe key, actor, payload}; the status is
-- given where the caller knows it already.
function M.answer(t, signal, status)
  return {
    integer.text(signal.number), status or M.status(t, signal), signal.workflow_id, signal.step,
    signal.stamp, signal.dedupe, signal.actor, payload(t, signal.number),
  }
end

-- The outstanding hand-off for a client to carry out, or false.
function M.handed(t)
  local handed = t.handed
  return handed and M.hand_off(t, handed.number, handed.workflow_id, handed.step, handed.n)
end

-- The timer that a topic needs, by its hash's key: nil while no hand-off is outstanding.
function M.handed_timer(hash)
  local text = command("HGET", hash, ":")
  return text and codec.topic_handed(text) ~= "" and M.timer({ digest = match(hash, ":sig:(%x+)$") }) or nil
end

-- When the topic's timer is due at the latest, as text; false for never.
function M.due(tx, t)
  if t.handed then
    return integer.text(tx.ms + states.GRACE_MS)
  end
  if t.first > t.last then
    return false
  end
  local oldest = M.signal(t, t.first)
  -- Where the oldest is not kept any more, there is more to move past than one call may.
  return integer.text(oldest and oldest.status == "k" and end_ms(oldest) or tx.ms)
end

-- Removes fields or, when only the record of an empty topic would be left, the whole topic. Returns whether the topic
-- is gone.
local function clear(t)
  local found, left, seen = command("HMGET", t.hash, unpack(t.gone)), command("HLEN", t.hash), {}
  for i = 1, #t.gone do
    local field = t.gone[i]
    left = left - (found[i] and not seen[field] and 1 or 0)
    seen[field] = true
  end
  if left == 1 and #t.fields == RECORD_ALONE then
    command("UNLINK", t.hash, t.set)
    return true
  end
  command("HDEL", t.hash, unpack(t.gone))
  return false
end

-- Writes the plan, the record of truth last.
function M.commit(tx, t)
  if t.moved then
    local handed = t.handed or { number = "", workflow_id = "", step = "", n = "" }
    tx.timers = { [M.timer(t)] = M.due(tx, t) }
    put(t, ":", codec.write_topic({
      first = t.first, last = t.last, counted = t.counted, handed = t.handed and integer.text(handed.number) or "",
      workflow_id = handed.workflow_id, step = handed.step, n = handed.n, more = t.more, name = t.topic,
    }))
    transaction.write_members(t.set, t.members)
  end
  flush.commit(tx)
  -- Dropped signals are removed before the record moves past them: a number without a signal is skipped, but a signal
  -- outside the record's bounds would never be removed.
  local gone = #t.gone > 0 and clear(t)
  if t.moved and not gone then
    command("HSET", t.hash, unpack(t.fields))
  end
end

return M
