-- prune: removes a finished workflow whose retention is over, a call at a time.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before; the place up to which the topics of its waits have
--   forgotten it, as an earlier reply told, or "", by who has not begun; what an answer "undelivered" has led
--   to, or "": "seen" when a dispatcher of callbacks was seen in the namespace, "none:" and how many callbacks
--   the answer told of when none ever was; and the callback from which on such are to be given up.
-- Reply: {"kept"}: it is not to be removed now; {"untold"}: topics have to be told first what became of
--   its waits; {"undelivered", how many callbacks it has}: some are to be delivered yet, which holds it back if
--   there is a dispatcher, as the caller has to find out after this; {"given up", how many callbacks are dead
--   now, from where on to do so next}; {"removing", place, insert key or false, waits}: what the caller has to carry out, a wait
--   as {step, signal or "", name|key}, and the place for the next call then; {"removed"} by the call that
--   did it; {"gone"}.
-- Bound: 100 waits of one chunk of steps, or one chunk (200) of callbacks; keys are unlinked, and freed beside
--   the calls.
-- Writes: with the first call, by which the workflow stops being there, index, statistics, header; with
--   each, how far the removal has come; with the last, its keys. These are the same call where nothing
--   belongs to the workflow elsewhere. The timer stands until then; that of a workflow which is kept is
--   put to where it belongs.
--
-- Callbacks that are to be delivered yet hold a workflow back for 7 days after its retention; then they are
-- dead. Where nobody has ever dispatched any they hold back nothing. That stands in the namespace's record,
-- in another partition: it is read after this call has told how many callbacks there are, so none of these
-- came after a dispatcher was seen.
--
-- The removal's record stands in place of the header:
--   semantics,chunk,place,n        the next wait: chunk of steps, place in it, and the wait's number
-- Of a workflow with an insert key stays for a while that its id is unusable: whoever found the key just
-- before might still insert under that id.
local START, END = "0,1,1", "end"
local WAITS_PER_CALL = 100

-- The answer for one that is kept until this time, or for ever.
local function kept_until(call_, flow, due)
  call_.timers = { [header.removal_timer(flow)] = due and call.number(due) or false }
  return { "kept" }
end

-- Whether callbacks of the partition were tried: an earlier release's dispatcher leaves no other trace.
local function were_tried(call_)
  local fields = {}
  for _, event in pairs(states.EVENT_NAME) do
    fields[#fields + 1] = "cb|" .. event .. "|delivered"
    fields[#fields + 1] = "cb|" .. event .. "|failed"
  end
  local counts = command("HMGET", call_.keys[keyslots.STATS], unpack(fields))
  for i = 1, #fields do
    if counts[i] then
      return true
    end
  end
  return false
end

-- Gives up the callbacks from this one on that are still to be delivered, as many as one call may look at.
local function give_up(call_, flow, first, counted)
  if first > flow.h.callbacks then
    return { "kept" } -- the header's count is wrong, which a sweep puts right
  end
  local dead = 0
  for number = first, min(first + states.CHUNK - 1, flow.h.callbacks) do
    local c = outbox.read(flow, call.number(number))
    if c and c.due ~= "" then
      outbox.give_up(call_, flow, c, counted)
      dead = dead + 1
    end
  end
  return { "given up", counted and dead or 0, call.number(first + states.CHUNK) }
end

-- What callbacks that are still to be delivered make of a removal; nil when nothing.
local function undelivered(call_, flow, found, first)
  local callbacks = call.number(flow.h.callbacks)
  local nobody, seen = found == "none:" .. callbacks, found == "seen"
  if nobody and were_tried(call_) then
    nobody, seen = false, true
  end
  if nobody and flow.h.callbacks <= states.CHUNK then
    outbox.drop_all(call_, flow)
    return nil
  elseif nobody then
    return give_up(call_, flow, first, false)
  elseif not seen then
    return { "undelivered", callbacks }
  end
  local due = flow.removal + states.CALLBACK_KEPT_MS
  return due > call_.ms and kept_until(call_, flow, due) or give_up(call_, flow, first, true)
end

-- Why the workflow cannot be removed now, as a reply, or nil.
local function obstacle(call_, flow, found, first)
  if flow.h.semantics ~= states.VERSION then
    return { "kept" }
  end
  if flow.listed then
    return { "kept" } -- it is first brought to the clock, and its timer with it
  end
  if not flow.removal or flow.removal > call_.ms then
    return kept_until(call_, flow, flow.removal)
  end
  local reply = flow.h.open > 0 and undelivered(call_, flow, found, first)
  return reply or (waits.flag(flow) ~= "" and { "untold" } or nil)
end

-- What the workflow was counted and listed in.
local function withdraw(call_, flow)
  local h = flow.h
  call_.index = { [flush.index_member(flow, states.WORKFLOW_CODE[flow.was])] = false }
  for i = 1, #states.CODES do
    call_.gauges[states.CODES[i]] = -h[states.CODES[i]]
  end
  call.count(call_, states.WORKFLOW_GAUGE[flow.was], -1)
  call.count(call_, states.CALLBACK_GAUGE.x, -h.dead)
  call.count(call_, states.CALLBACK_GAUGE.p, -h.open)
  call.count(call_, states.CALLBACK_GAUGE.d, h.dead + h.open - h.callbacks)
end

local function record_at(place)
  return states.VERSION .. "," .. place
end

-- The waits from a place on, within one chunk of steps, and the place behind them; nil behind the last.
local function page(flow, from)
  local chunk, first, n = match(from, "^(%d+),(%d+),(%d+)$")
  local text = chunk and flow.waited and command("HGET", flow.w, "#" .. chunk)
  if not text then
    return nil
  end
  local names, found = {}, {}
  for name in gmatch(text, "[^,]+") do
    names[#names + 1] = name
  end
  waits.load(flow, names)
  for at = tonumber(first), #names do
    local latest = flow.waits[names[at]]
    for number = tonumber(n), latest and latest.n or 0 do
      if #found == WAITS_PER_CALL then
        return found, chunk .. "," .. call.number(at) .. "," .. call.number(number)
      end
      local wait = waits.numbered(flow, names[at], number)
      found[#found + 1] = { names[at], wait.signal, wait.topic }
    end
    n = 1
  end
  return found, call.number(chunk + 1) .. ",1,1"
end

local function remove(call_, flow)
  local keyed = command("HEXISTS", flow.w, ":k") == 1
  command("ZREM", call_.keys[keyslots.TIMERS], header.removal_timer(flow))
  command("UNLINK", flow.w, flow.p, flow.e, flow.n, flow.d)
  if keyed then
    command("HSET", flow.w, header.UNUSABLE, "1")
    command("PEXPIRE", flow.w, states.INSERT_MS)
  end
  return { "removed" }
end

local function go_on(call_, flow, from)
  local keyed, found, place = from == START and command("HGET", flow.w, ":k"), page(flow, from)
  if not keyed and not found then
    return remove(call_, flow)
  end
  return { "removing", place or END, keyed, found or {} }
end

local function begin(call_, flow, args)
  local reply = obstacle(call_, flow, args[4], tonumber(args[5]))
  if not reply then
    withdraw(call_, flow)
    call.set(flow, header.UNUSABLE, record_at(START))
    flow.gone = { ":s", ":c" }
  end
  flush.commit(call_, args[1])
  return reply or go_on(call_, flow, START)
end

return function(keys, args)
  local call_ = call.open(keys)
  local flow = call.flow(call_, 1, { header.UNUSABLE })
  if flow.h then
    return begin(call_, flow, args)
  end
  local semantics, from = match(flow.raw[header.UNUSABLE] or "", "^(%d+),(.+)$")
  if not semantics then
    command("ZREM", keys[keyslots.TIMERS], header.removal_timer(flow))
    return { "gone" }
  end
  if semantics ~= states.VERSION then
    return { "kept" }
  end
  if args[3] ~= "" then
    from = args[3]
    command("HSET", flow.w, header.UNUSABLE, record_at(from))
  end
  return go_on(call_, flow, from)
end
