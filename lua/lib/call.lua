-- One call's view of its partition: what it has read, and what it is going to write.
--
-- A function reads and plans on the copies held here, and calls flush.commit once. Nothing is written
-- before that, so a refusal, or an error while planning, leaves no trace.
local M = {}

-- Opens a call at the server's time, which is read here and nowhere else.
function M.open(keys)
  local time = redis.call("TIME")
  local micros = string.format("%06d", time[2])
  return {
    keys = keys,
    ms = tonumber(time[1] .. string.sub(micros, 1, 3)),
    us = time[1] .. micros,
    serial = 0,
    flows = {}, -- by slot
    order = {}, -- the same, in order of first use
    stats = {},
    queued = {}, -- members of the ready queue to add (true) or remove (false)
    timers = {}, -- members of the timers to set (milliseconds) or remove (false)
    heads = {},
    log = {},
  }
end

-- A number that is unique among the records of a partition and grows with time: microseconds, then
-- a number within the call.
function M.stamp(call)
  call.serial = call.serial + 1
  return call.us .. string.format("%04d", call.serial)
end

-- Opens the workflow in this slot of the keys, with the records of the named steps. flow.h, its
-- header, is nil when there is none.
function M.flow(call, slot, names)
  local flow = keyslots.flow(call.keys, slot)
  local found = redis.call("HMGET", flow.w, ":s", ":c", unpack(names))
  flow.raw = {} -- records as stored, by step; false where there is none
  flow.steps = {} -- records taken apart
  flow.dirty = {} -- steps to write
  flow.dirties = {}
  flow.fields = {} -- other fields of the workflow's hash to set, and to delete
  flow.gone = {}
  flow.rows = {} -- fields of the payload hash to set
  flow.accepted = {} -- evidence to append
  flow.noise = {}
  for i = 1, #names do
    flow.raw[names[i]] = found[i + 2]
  end
  if found[1] then
    flow.static = found[1]
    flow.h = header.read(found[1], found[2])
    flow.was = states.workflow_state(flow.h)
  end
  call.flows[slot] = flow
  call.order[#call.order + 1] = flow
  return flow
end

-- Gives an invisible workflow its header: from this call on it exists.
function M.create(call, flow, before, steps, after)
  flow.h = header.new(steps, call.ms)
  flow.static = before .. string.format("%.0f", call.ms) .. after
  flow.fields = { ":s", flow.static }
  flow.created = true
  flow.moved = true
  M.count(call, states.STEP_GAUGE.p, steps)
end

-- Makes the records of all these steps present with one read.
function M.fetch(flow, names)
  local missing, asked = {}, {}
  for i = 1, #names do
    local name = names[i]
    if flow.raw[name] == nil and not asked[name] then
      asked[name] = true
      missing[#missing + 1] = name
    end
  end
  if #missing > 0 then
    local found = redis.call("HMGET", flow.w, unpack(missing))
    for i = 1, #missing do
      flow.raw[missing[i]] = found[i]
    end
  end
end

-- The step's record taken apart, or nil. Touch it to have its changes written. A step is held either
-- taken apart or as text, never both.
function M.step(flow, name)
  local step = flow.steps[name]
  if step then
    return step
  end
  if flow.raw[name] == nil then
    M.fetch(flow, { name })
  end
  if not flow.raw[name] then
    return nil
  end
  step = record.read(flow.raw[name])
  flow.steps[name] = step
  return step
end

-- The step's record as text.
function M.text(flow, name)
  local step = flow.steps[name]
  if step then
    flow.raw[name] = record.write(step)
    flow.steps[name] = nil
  end
  return flow.raw[name]
end

function M.touch(flow, name)
  if not flow.dirty[name] then
    flow.dirty[name] = true
    flow.dirties[#flow.dirties + 1] = name
  end
end

-- Adds to one of the fleet's durable counters.
function M.count(call, field, by)
  call.stats[field] = (call.stats[field] or 0) + by
end

-- Counts a step from one state to another, in its workflow and in the fleet's gauges.
function M.recount(call, flow, from, to)
  local h = flow.h
  local i, j = states.INDEX[from], states.INDEX[to]
  h[i] = h[i] - 1
  h[j] = h[j] + 1
  flow.moved = true
  M.count(call, states.STEP_GAUGE[from], -1)
  M.count(call, states.STEP_GAUGE[to], 1)
end

-- Sets a timer; kind "r": a retry is due, "i": an insert has been left unfinished.
function M.set_timer(call, flow, kind, name, due_ms)
  call.timers[kind .. "|" .. flow.id .. "|" .. name] = string.format("%.0f", due_ms)
end

function M.drop_timer(call, flow, kind, name)
  call.timers[kind .. "|" .. flow.id .. "|" .. name] = false
end

return M
