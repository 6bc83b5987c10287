-- prune: removes a finished workflow whose retention is over, a call at a time.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, and the place up to which the topics of its waits
--   have forgotten it, as an earlier reply told; or "", by who has not begun.
-- Reply: {"kept"}: it is not to be removed now; {"untold"}: topics have to be told first what became of
--   its waits; {"removing", place, insert key or false, waits}: what the caller has to carry out, a wait
--   as {step, signal or "", name|key}, and the place for the next call then; {"removed"} by the call that
--   did it; {"gone"}.
-- Bound: 100 waits of one chunk of steps; keys are unlinked, and freed beside the calls.
-- Writes: with the first call, by which the workflow stops being there, index, statistics, header; with
--   each, how far the removal has come; with the last, its keys. These are the same call where nothing
--   belongs to the workflow elsewhere. The timer stands until then; that of a workflow which is kept is
--   put to where it belongs.
--
-- The removal's record stands in place of the header:
--   semantics,chunk,place,n        the next wait: chunk of steps, place in it, and the wait's number
-- Of a workflow with an insert key stays for a while that its id is unusable: whoever found the key just
-- before might still insert under that id.
local START, END = "0,1,1", "end"
local WAITS_PER_CALL = 100

-- Why the workflow cannot be removed now, or nil.
local function obstacle(call_, flow)
  if flow.h.semantics ~= states.VERSION then
    return "kept"
  end
  if not flow.removal or flow.removal > call_.ms then
    call_.timers = {
      [header.removal_timer(flow)] = flow.removal and call.number(flow.removal) or false,
    }
    return "kept"
  end
  if flow.listed then
    return "kept" -- it is first brought to the clock, and its timer with it
  end
  return waits.flag(flow) ~= "" and "untold" or nil
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
  call.count(call_, states.CALLBACK_GAUGE.d, h.dead - h.callbacks)
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

local function begin(call_, flow, verb)
  local found = obstacle(call_, flow)
  if not found then
    withdraw(call_, flow)
    call.set(flow, header.UNUSABLE, record_at(START))
    flow.gone = { ":s", ":c" }
  end
  flush.commit(call_, verb)
  return found and { found } or go_on(call_, flow, START)
end

return function(keys, args)
  local call_ = call.open(keys)
  local flow = call.flow(call_, 1, { header.UNUSABLE })
  if flow.h then
    return begin(call_, flow, args[1])
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
