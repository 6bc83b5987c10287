-- Writing what a call has planned: rows and evidence first, derived keys next, then each workflow's own hash,
-- the record of truth; and the statistics, which count what the records say. A call cut short by a fault leaves
-- derived keys to be mended, never a record that claims more than was done; and one that meets a payload hash
-- which somebody has overwritten has written nothing that counts.
local M = {}

-- The workflow's member in the listing, in a group: "o" while open, else the code of its state.
function M.index_member(flow, group)
  return group .. "|" .. format("%011x", flow.h.inserted) .. "|" .. flow.id
end

-- What a change of the workflow's state means for the listing, the gauges and its end.
local function turn(call_, flow, was, now)
  local h, ended = flow.h, states.WORKFLOW_CODE[now]
  if was then
    call.count(call_, states.WORKFLOW_GAUGE[was], -1)
  end
  call.count(call_, states.WORKFLOW_GAUGE[now], 1)
  if not was or states.WORKFLOW_CODE[was] ~= ended then
    call_.index = call_.index or {}
    if was then
      call_.index[M.index_member(flow, states.WORKFLOW_CODE[was] or "o")] = false
    end
    call_.index[M.index_member(flow, ended or "o")] = true
  end
  if ended then
    h.finished = h.last
    call_.ended = call_.ended or {}
    call_.ended[#call_.ended + 1] = flow.id
  else
    h.finished = ""
  end
end

-- The timer at the end of the retention follows the header.
local function place_removal(call_, flow)
  local due = header.removal(flow.h)
  local nothing_holds = flow.open and flow.h.open == 0 -- any more: it may have been put off
  if due ~= flow.removal or (due and nothing_holds) then
    call_.timers = call_.timers or {}
    call_.timers[header.removal_timer(flow)] = due and call.number(due) or false
  end
end

-- Sets the timer of what is left to be walked when this call has moved that, and drops it at the end.
local function follow_walk(call_, flow)
  local unfinished = flow.h.head < flow.h.tail
  call_.timers = call_.timers or {}
  call_.timers[walk.timer(flow)] = unfinished and call.number(call_.ms + states.GRACE_MS)
end

-- The entry of the listing follows the time of insertion, where that was moved.
local function move_listing(call_, flow)
  call_.index = call_.index or {}
  call_.index[flow.listed] = false
  call_.index[M.index_member(flow, states.WORKFLOW_CODE[flow.was] or "o")] = true
end

local function settle(call_, flow)
  flow.h.last = flow.since
  local was, now = flow.was, states.workflow_state(flow.h)
  local cause = states.WORKFLOW_CODE[now] and states.workflow_cause(flow.h)
  if was ~= now then
    turn(call_, flow, was, now)
  end
  if cause and (was ~= now or cause ~= flow.cause) then
    call.count(call_, "wt|" .. now .. "|" .. now .. "|" .. cause .. "|" .. flow.h.semantics, 1)
    outbox.write(call_, flow, "workflow.terminal", now .. "," .. cause)
  end
  if flow.walked then
    follow_walk(call_, flow)
  end
  flow.counts = header.write(flow.h)
end

-- Adds and removes members of a sorted set; the score is 0 where only the order of names matters.
-- Returns the members to be removed, when some of them did not stand there.
function M.write_members(key, members)
  local added, removed = {}, {}
  for member, score in pairs(members) do
    if score then
      added[#added + 1] = score == true and "0" or score
      added[#added + 1] = member
    else
      removed[#removed + 1] = member
    end
  end
  -- Listed twice for a moment rather than not at all: a sweep finds it by its entry.
  if #added > 0 then
    command("ZADD", key, unpack(added))
  end
  local found = #removed > 0 and command("ZREM", key, unpack(removed)) or 0
  return found < #removed and removed
end

-- The fields of the statistics as this call leaves them, one after the other with their names. They are read
-- before anything is written, and set when all else is: a call that is cut off before has counted nothing.
local function plan_stats(call_)
  local fields, changes, sets = {}, {}, {}
  for state, by in pairs(call_.gauges) do
    if by ~= 0 then
      fields[#fields + 1] = states.STEP_GAUGE[state]
      changes[#fields] = by
    end
  end
  for field, by in pairs(call_.counters) do
    if by ~= 0 then
      fields[#fields + 1] = field
      changes[#fields] = by
    end
  end
  local values = #fields > 0 and command("HMGET", call_.keys[keyslots.STATS], unpack(fields))
  for i = 1, #fields do
    sets[2 * i - 1] = fields[i]
    -- One that somebody has spoilt begins anew: it holds up nothing, and of gauges a rebuild tells.
    sets[2 * i] = call.number((tonumber(values[i] or nil) or 0) + changes[i])
  end
  return sets
end

local function write_records(flow)
  local fields = flow.fields or {}
  local at = #fields
  for name in pairs(flow.dirty) do
    fields[at + 1], fields[at + 2] = name, call.text(flow, name)
    at = at + 2
  end
  if flow.turns then
    for class, turn in pairs(flow.turns) do
      fields[at + 1], fields[at + 2] = ":t" .. class, call.number(turn)
      at = at + 2
    end
  end
  if flow.moved or flow.marked then
    fields[at + 1], fields[at + 2] = ":c", flow.counts
    at = at + 2
  end
  if at > 0 then
    command("HSET", flow.w, unpack(fields))
  end
  if flow.gone then
    command("HDEL", flow.w, unpack(flow.gone))
  end
end

local function first_added(queued)
  for member, stands in pairs(queued) do
    if stands then
      return member
    end
  end
  return nil
end

-- Hints to whoever listens; they change nothing but latency. So they may be lost: the records are written, and a
-- caller who has no right to publish (any more) is told what became of them, not of that.
local function publish(call_, verb)
  local channel = sub(call_.keys[keyslots.READY], 1, -6) .. "events"
  local first = call_.woken and first_added(call_.queued)
  if first then
    local queues, seen = {}, {}
    for i = 1, #call_.woken do
      local name = match(call_.woken[i], "^[^:]+")
      if not seen[name] then
        seen[name] = true
        queues[#queues + 1] = '"' .. name .. '"'
      end
    end
    local id = match(first, "|([^|]+)|[^|]+$")
    redis.pcall(
      verb, channel,
      '{"v":1,"event":"step_available","workflow_id":"' .. id .. '","queues":[' .. concat(queues, ",") .. "]}"
    )
  end
  for i = 1, #(call_.ended or {}) do
    redis.pcall(
      verb, channel,
      '{"v":1,"event":"workflow_terminal","workflow_id":"' .. call_.ended[i] .. '","queues":[]}'
    )
  end
end

local function write_rows(flow)
  if flow.accepted or flow.noise then
    evidence.write(flow)
  end
  if #flow.rows > 0 then
    command("HSET", flow.p, unpack(flow.rows))
  end
  if flow.unset then
    command("HDEL", flow.p, unpack(flow.unset))
  end
end

function M.commit(call_, verb)
  local keys, flows = call_.keys, call_.flows
  for slot = 1, #flows do
    local flow = flows[slot]
    if flow.listed then
      move_listing(call_, flow)
    end
    if flow.moved then
      settle(call_, flow)
    elseif flow.marked then
      flow.counts = header.write(flow.h)
    end
    if flow.moved or flow.marked or flow.listed then
      place_removal(call_, flow)
    end
  end
  local stats = plan_stats(call_)
  for slot = 1, #flows do
    write_rows(flows[slot])
  end
  if call_.index then
    M.write_members(keys[keyslots.INDEX], call_.index)
  end
  if next(call_.queued) then
    local elsewhere = M.write_members(keys[keyslots.READY], call_.queued)
    if elsewhere then
      command("ZREM", keys[keyslots.RESERVED], unpack(elsewhere))
    end
  end
  if call_.reserved then
    M.write_members(keys[keyslots.RESERVED], call_.reserved)
    M.write_members(keys[keyslots.SERVED], call_.served)
  end
  for slot = 1, #flows do
    if flows[slot].agenda then
      waits.commit(call_, flows[slot])
    end
  end
  if call_.timers then
    M.write_members(keys[keyslots.TIMERS], call_.timers)
  end
  if call_.outbox then
    M.write_members(keys[keyslots.OUTBOX], call_.outbox)
  end
  if call_.log then
    evidence.write_log(call_)
  end
  for slot = 1, #flows do
    write_records(flows[slot])
  end
  if #stats > 0 then
    command("HSET", keys[keyslots.STATS], unpack(stats))
  end
  if call_.woken or call_.ended then
    publish(call_, verb)
  end
end

-- The counts of a workflow's header as they are now, as they are told (header.lua). Only what had ended before
-- can have been acknowledged.
function M.counts(flow)
  local acknowledged = flow.cause and flow.h.finished ~= "" and command("HGET", flow.w, header.ACKNOWLEDGED)
  return header.told(flow.counts, acknowledged)
end

-- The header of a workflow as it is now: static, counts as told (header.lua), context, and "1" while the topics of its waits
-- have not been told all (waits.lua); {} where there is none.
function M.header(flow)
  if not flow.h then
    return {}
  end
  local context = flow.h.context == "c" and command("HGET", flow.p, ":")
  return { flow.static, M.counts(flow), context, waits.flag(flow) }
end

return M
