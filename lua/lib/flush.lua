-- Writes a call's plan: rows and evidence first, derived keys next, then each workflow's own hash, the record of
-- truth, and the statistics, which count what the records say. A call that is cut short leaves derived keys to be
-- repaired, never a record that claims more than was done; and one that meets a payload hash of another type has
-- written no record.
local M = {}

-- Updates the gauges, the listing and the end when the workflow's state changes.
local function change_state(tx, workflow, was, now)
  local h, ended = workflow.h, states.WORKFLOW_CODE[now]
  if was then
    transaction.count(tx, states.WORKFLOW_GAUGE[was], -1)
  end
  transaction.count(tx, states.WORKFLOW_GAUGE[now], 1)
  if not was or states.WORKFLOW_CODE[was] ~= ended then
    tx.index = tx.index or {}
    if was then
      tx.index[header.index_member(workflow, states.WORKFLOW_CODE[was] or "o")] = false
    end
    tx.index[header.index_member(workflow, ended or "o")] = true
  end
  if ended then
    h.finished = h.last
    tx.ended = tx.ended or {}
    tx.ended[#tx.ended + 1] = workflow.id
  else
    h.finished = ""
  end
end

-- The timer at the end of the retention follows the header.
local function place_removal(tx, workflow)
  local due = header.removal(workflow.h)
  local nothing_holds = workflow.open and workflow.h.open == 0 -- any more: the timer may have been put off
  if due ~= workflow.removal or (due and nothing_holds) then
    tx.timers = tx.timers or {}
    tx.timers[header.removal_timer(workflow)] = due and integer.text(due) or false
  end
end

-- Sets the timer of an unfinished walk that this call has moved on, and drops it at the end.
local function follow_walk(tx, workflow)
  local unfinished = workflow.h.head < workflow.h.tail
  tx.timers = tx.timers or {}
  tx.timers[propagate.timer(workflow)] = unfinished and integer.text(tx.ms + states.GRACE_MS)
end

-- The time of insertion was moved with the clock: the entry of the listing follows, and evidence says so.
local function follow_clock(tx, workflow)
  tx.index = tx.index or {}
  tx.index[workflow.listed] = false
  tx.index[header.index_member(workflow, states.WORKFLOW_CODE[workflow.was] or "o")] = true
  transaction.place_tags(tx, workflow, match(workflow.listed, "|(.*)$"), false)
  transaction.place_tags(tx, workflow, header.place(workflow), true)
  evidence.accept(
    tx, workflow, { action = "reconcile", scope = "workflow", step = "", call = "", note = '{"source":"server"}' },
    "accepted", "clock_set_back",
    "all times count " .. format("%.1f", workflow.set_back / 1000) .. " s earlier from now on"
  )
end

local function settle(tx, workflow)
  workflow.h.last = workflow.since
  local was, now = workflow.was, states.workflow_state(workflow.h)
  local cause = states.WORKFLOW_CODE[now] and states.workflow_cause(workflow.h)
  if was ~= now then
    change_state(tx, workflow, was, now)
  end
  if cause and (was ~= now or cause ~= workflow.cause) then
    transaction.count(tx, "wt|" .. now .. "|" .. now .. "|" .. cause .. "|" .. workflow.h.semantics, 1)
    throughput.workflow(tx, workflow, now)
    local skipped = workflow.b and "," .. integer.text(workflow.b.skipped) or ""
    outbox.write(tx, workflow, "workflow.terminal", now .. "," .. cause .. skipped)
  end
  if workflow.walked then
    follow_walk(tx, workflow)
  end
  workflow.counts = codec.write_counts(workflow.h)
end

-- A hint costs some 10 us for each subscriber. So after one that many have heard, none is sent for a while that grows
-- with their number; a waiting worker finds the steps by polling meanwhile. The end of that while, in milliseconds,
-- is in a field of the statistics.
local QUIET, HEARD_FREELY, QUIET_MS_EACH, QUIET_MS_MOST = "hq", 100, 0.5, 10000

-- Statistics may come to hundreds of fields, of names and queues. A small hash is searched from its beginning for each
-- field; one that has a long value is a table. So the first that are written have one with them, which counts nothing.
local AS_TABLE = "#"

-- The fields of the statistics as this call leaves them, each name followed by its value. They are read before
-- anything is written, and set last: a call that is cut off before has counted nothing.
local function plan_stats(tx)
  local fields, changes, sets, count = {}, {}, {}, 0
  for field, by in pairs(tx.counters) do
    if by ~= 0 then
      count = count + 1
      fields[count], changes[count] = field, by
    end
  end
  if tx.woken or tx.ended then
    fields[count + 1] = QUIET
  end
  local counted = #fields
  if tx.finished or tx.names then
    throughput.list(tx, fields)
  end
  local values = #fields > 0 and command("HMGET", tx.keys[keyslots.STATS], unpack(fields))
  tx.quiet_until = values and tonumber(values[count + 1] or nil) or 0
  for i = 1, count do
    -- A corrupt one starts anew, so that it blocks no transition; a rebuild corrects gauges.
    sets[2 * i - 1], sets[2 * i] = fields[i], integer.text((tonumber(values[i] or nil) or 0) + changes[i])
  end
  if count > 0 and not values[1] then
    sets[2 * count + 1], sets[2 * count + 2] = AS_TABLE, format("%099d%099d%099d", 0, 0, 0)
  end
  if counted < #fields then
    throughput.plan(tx, sets, fields, values, counted)
  end
  return sets
end

local function write_records(workflow)
  local fields = workflow.fields or {}
  local at = #fields
  for name in pairs(workflow.dirty) do
    fields[at + 1], fields[at + 2] = name, transaction.text(workflow, name)
    at = at + 2
  end
  if workflow.positions then
    for class, number in pairs(workflow.positions) do
      fields[at + 1], fields[at + 2] = ":t" .. class, integer.text(number)
      at = at + 2
    end
  end
  if workflow.moved or workflow.marked then
    fields[at + 1], fields[at + 2] = ":c", workflow.counts
    at = at + 2
  end
  if at > 0 then
    command("HSET", workflow.w, unpack(fields))
  end
  if workflow.gone and #workflow.gone > 0 then
    command("HDEL", workflow.w, unpack(workflow.gone))
  end
end

local function first_added(queued)
  for member, is_added in pairs(queued) do
    if is_added then
      return member
    end
  end
  return nil
end

-- The hint that steps have come into empty queues; nil when they have left them again.
local function step_available(tx)
  local first = tx.woken and first_added(tx.queued)
  if not first then
    return nil
  end
  local queues, seen = {}, {}
  for i = 1, #tx.woken do
    local name = match(tx.woken[i], "^[^:]+")
    if not seen[name] then
      seen[name] = true
      queues[#queues + 1] = '"' .. name .. '"'
    end
  end
  local id = match(first, "|([^|]+)|[^|]+$")
  return '{"v":1,"event":"step_available","workflow_id":"' .. id .. '","queues":[' .. concat(queues, ",") .. "]}"
end

-- Publishes hints, which change nothing but latency. A failure is ignored: the records are written, and a caller
-- without the right to publish still gets its reply.
local function publish(tx, verb)
  local quiet_ms = tx.quiet_until - tx.ms
  if quiet_ms > 0 and quiet_ms <= QUIET_MS_MOST then -- and does not lie ahead, as after a clock was set back
    return
  end
  local channel, hints = sub(tx.keys[keyslots.READY], 1, -6) .. "events", { step_available(tx) }
  for i = 1, #(tx.ended or {}) do
    hints[#hints + 1] = '{"v":1,"event":"workflow_terminal","workflow_id":"' .. tx.ended[i] .. '","queues":[]}'
  end
  for i = 1, #hints do
    local heard = tonumber(redis.pcall(verb, channel, hints[i])) or 0
    if heard > HEARD_FREELY then
      local until_ms = tx.ms + min(floor(heard * QUIET_MS_EACH), QUIET_MS_MOST)
      command("HSET", tx.keys[keyslots.STATS], QUIET, integer.text(until_ms))
      return
    end
  end
end

local function write_rows(workflow)
  if workflow.accepted or workflow.noise then
    evidence.write(workflow)
  end
  if #workflow.rows > 0 then
    command("HSET", workflow.p, unpack(workflow.rows))
  end
  if workflow.unset then
    command("HDEL", workflow.p, unpack(workflow.unset))
  end
end

-- Updates the fields that semantics version 3 keeps beside the counts.
local function follow_branching(tx, workflow)
  if workflow.ended then
    local done = propagate.descend(tx, workflow, workflow.ended)
    propagate.append(workflow, "", done, done.at)
  end
  local text = codec.write_branching(workflow.b)
  if text ~= (workflow.stored or header.NO_BRANCHING) then
    transaction.set(workflow, header.BRANCHING, text)
  end
  branching.follow_dues(tx, workflow)
end

-- Removes the pieces of a fragment that is in (growth.lua), which the records say by now. What a call leaves that is
-- cut off before is given up later, as all that is staged.
local function drop_pieces(tx, workflow, spent)
  local fields = { "+" .. spent.token }
  for number = 1, spent.pieces do
    fields[number + 1] = growth.piece(spent.token, number)
  end
  command("HDEL", workflow.p, unpack(fields))
  command("ZREM", tx.keys[keyslots.STAGED], workflow.id .. "|" .. spent.token)
end

function M.commit(tx, verb)
  local keys, workflows = tx.keys, tx.workflows
  for slot = 1, #workflows do
    local workflow = workflows[slot]
    if workflow.listed then
      follow_clock(tx, workflow)
    end
    if workflow.b then
      follow_branching(tx, workflow)
    end
    if workflow.moved then
      settle(tx, workflow)
    elseif workflow.marked then
      workflow.counts = codec.write_counts(workflow.h)
    end
    if workflow.moved or workflow.marked or workflow.listed then
      place_removal(tx, workflow)
    end
    if workflow.link and links.has_news(workflow) ~= workflow.had_news then
      waits.place_link(tx, workflow)
    end
  end
  local stats = plan_stats(tx)
  for slot = 1, #workflows do
    write_rows(workflows[slot])
  end
  if tx.index then
    transaction.write_members(keys[keyslots.INDEX], tx.index)
  end
  if tx.tags then
    transaction.write_members(keys[keyslots.TAGS], tx.tags)
  end
  if next(tx.queued) then
    local elsewhere = transaction.write_members(keys[keyslots.READY], tx.queued)
    if elsewhere then
      command("ZREM", keys[keyslots.RESERVED], unpack(elsewhere))
    end
  end
  if tx.reserved then
    transaction.write_members(keys[keyslots.RESERVED], tx.reserved)
    transaction.write_members(keys[keyslots.SERVED], tx.served)
  end
  for slot = 1, #workflows do
    if workflows[slot].notices then
      waits.commit(tx, workflows[slot])
    end
  end
  if tx.timers then
    transaction.write_members(keys[keyslots.TIMERS], tx.timers)
  end
  if tx.outbox then
    transaction.write_members(keys[keyslots.OUTBOX], tx.outbox)
  end
  if tx.log then
    evidence.write_log(tx)
  end
  for slot = 1, #workflows do
    write_records(workflows[slot])
  end
  for slot = 1, #workflows do
    if workflows[slot].spent then
      drop_pieces(tx, workflows[slot], workflows[slot].spent)
    end
  end
  if #stats > 0 then
    command("HSET", keys[keyslots.STATS], unpack(stats))
  end
  if tx.woken or tx.ended then
    publish(tx, verb or tx.verb)
  end
end

-- The counts of a workflow's header as they are now, in the form that clients get (header.lua). Only an end that was
-- there before this call can have been acknowledged.
function M.counts(workflow)
  local acknowledged = workflow.cause and workflow.h.finished ~= "" and command("HGET", workflow.w, header.ACKNOWLEDGED)
  local branches = workflow.b and codec.write_branching(workflow.b)
  return header.for_client(workflow.counts, acknowledged, branches, workflow.tags)
end

-- The header of a workflow as it is now: static, counts as clients get them (header.lua), context, and "1" while
-- topics of its waits are to be notified (waits.lua); {} where there is none.
function M.header(workflow)
  if not workflow.h then
    return {}
  end
  local context = workflow.h.context == "c" and command("HGET", workflow.p, ":")
  return { workflow.static, M.counts(workflow), context, waits.flag(workflow) }
end

-- The reply to a command on a workflow: its refusal, or the outcome with the header as it is now.
function M.reply(workflow, answer)
  return answer[1] == "rejected" and answer or { answer[1], M.header(workflow) }
end

return M
