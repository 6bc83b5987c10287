-- Writing what a call has planned: derived keys first, rows and evidence next, and each workflow's
-- own hash, the record of truth, last. A call cut short by a fault leaves derived keys that a
-- reconciliation mends, never a record that claims more than was done.
local M = {}

function M.index_member(flow, state)
  return (states.WORKFLOW_CODE[state] or "o") .. "|" .. string.format("%011x", flow.h.inserted) .. "|" .. flow.id
end

-- What the workflow's new counts mean for the listing, the gauges and its end.
local function settle(call_, flow)
  local h = flow.h
  h.last = call_.ms - h.inserted
  local was, now = flow.was, states.workflow_state(h)
  if was == now then
    return
  end
  local index = call_.keys[keyslots.INDEX]
  if was then
    call.count(call_, states.WORKFLOW_GAUGE[was], -1)
  end
  call.count(call_, states.WORKFLOW_GAUGE[now], 1)
  local ended = states.WORKFLOW_CODE[now]
  if not was or (states.WORKFLOW_CODE[was] ~= ended) then
    if was then
      redis.call("ZREM", index, M.index_member(flow, was))
    end
    redis.call("ZADD", index, "0", M.index_member(flow, now))
  end
  if ended then
    h.finished = h.last
    local cause = states.workflow_cause(h)
    call.count(call_, "wt|" .. now .. "|" .. now .. "|" .. cause .. "|" .. h.semantics, 1)
    call_.ended = call_.ended or {}
    call_.ended[#call_.ended + 1] = flow
  else
    h.finished = ""
  end
end

-- Adds and removes members of a sorted set; the score is 0 where only the order of names matters.
local function write_members(key, members)
  local added, removed = {}, {}
  for member, score in pairs(members) do
    if score then
      added[#added + 1] = score == true and "0" or score
      added[#added + 1] = member
    else
      removed[#removed + 1] = member
    end
  end
  if #removed > 0 then
    redis.call("ZREM", key, unpack(removed))
  end
  if #added > 0 then
    redis.call("ZADD", key, unpack(added))
  end
end

local function write_stats(call_)
  local key, fields, pairs_ = call_.keys[keyslots.STATS], {}, {}
  for field, by in pairs(call_.stats) do
    if by ~= 0 then
      fields[#fields + 1] = field
    end
  end
  if #fields == 0 then
    return
  end
  local values = redis.call("HMGET", key, unpack(fields))
  for i = 1, #fields do
    pairs_[2 * i - 1] = fields[i]
    pairs_[2 * i] = string.format("%.0f", (values[i] or 0) + call_.stats[fields[i]])
  end
  redis.call("HSET", key, unpack(pairs_))
end

local function write_records(flow)
  local fields = flow.fields
  if flow.moved then
    fields[#fields + 1] = ":c"
    fields[#fields + 1] = header.counts(flow.h)
  end
  if flow.turned then
    fields[#fields + 1] = ":t"
    fields[#fields + 1] = queue.turns_text(flow)
  end
  for i = 1, #flow.dirties do
    local name = flow.dirties[i]
    local step = flow.steps[name]
    if step then
      flow.raw[name] = record.write(step)
    end
    fields[#fields + 1] = name
    fields[#fields + 1] = flow.raw[name]
  end
  if #fields > 0 then
    redis.call("HSET", flow.w, unpack(fields))
  end
  if #flow.gone > 0 then
    redis.call("HDEL", flow.w, unpack(flow.gone))
  end
end

-- Hints to whoever listens; they change nothing but latency.
local function publish(call_, verb)
  local channel = string.sub(call_.keys[keyslots.READY], 1, -6) .. "events"
  local first = call_.woken and next(call_.queued)
  if first then
    local queues, seen = {}, {}
    for i = 1, #call_.woken do
      local name = string.match(call_.woken[i], "^[^:]+")
      if not seen[name] then
        seen[name] = true
        queues[#queues + 1] = '"' .. name .. '"'
      end
    end
    local id = string.match(first, "|([^|]+)|[^|]+$")
    redis.call(
      verb, channel,
      '{"v":1,"event":"step_available","workflow_id":"' .. id .. '","queues":[' .. table.concat(queues, ",") .. "]}"
    )
  end
  for i = 1, #(call_.ended or {}) do
    redis.call(
      verb, channel,
      '{"v":1,"event":"workflow_terminal","workflow_id":"' .. call_.ended[i].id .. '","queues":[]}'
    )
  end
end

-- The headers of all workflows of this call, as they are now: static, counts, context.
function M.headers(call_, with_context)
  local replies = {}
  for i = 1, #call_.order do
    local flow = call_.order[i]
    if flow.h then
      local context = with_context and redis.call("HGET", flow.p, ":")
      replies[i] = { flow.static, header.counts(flow.h), context }
    else
      replies[i] = {}
    end
  end
  return replies
end

function M.commit(call_, verb)
  local keys = call_.keys
  for i = 1, #call_.order do
    local flow = call_.order[i]
    if flow.moved then
      settle(call_, flow)
    end
  end
  write_members(keys[keyslots.READY], call_.queued)
  write_members(keys[keyslots.TIMERS], call_.timers)
  write_stats(call_)
  evidence.write_log(call_)
  for i = 1, #call_.order do
    local flow = call_.order[i]
    evidence.write(flow)
    if #flow.rows > 0 then
      redis.call("HSET", flow.p, unpack(flow.rows))
    end
    if flow.dropped then
      redis.call("HINCRBY", flow.w, ":d", flow.dropped)
    end
    write_records(flow)
  end
  publish(call_, verb)
end

return M
