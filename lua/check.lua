-- check: compares one chunk of a workflow's steps with what its derived keys say, and mends these; tells
-- what the topics of its waits are to be told.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, the number of the chunk of steps; or "@n" for
--   the callbacks from the n-th on; or "" and then the counts as they were read before the first chunk,
--   and as the records imply, to be put right if nothing has changed meanwhile.
-- Reply: {repairs, counts as found, counts as left, a count for each step state in this chunk, of
--   callbacks, of open and of dead ones, waits}; a repair is {kind, step}, a wait as in agenda, and "1" behind it
--   when its topic was told of it before. {} where there is no workflow.
-- Bound: one chunk (200) of steps with their waits, or of callbacks; the budget of edges for leases that end by
--   it.
-- Writes: ready queue, timers, agenda, outbox, index, counts; retries that are due become available,
--   leases that have passed are taken away, waits whose deadline has passed expire. On a healthy workflow
--   it writes nothing.

local function check_available(call_, flow, name, step, repairs)
  local keys = call_.keys
  local member = queue.member(flow, name, step.class, step.order)
  if not (command("ZSCORE", keys[keyslots.READY], member) or command("ZSCORE", keys[keyslots.RESERVED], member)) then
    call_.queued[member] = true
    repairs[#repairs + 1] = { "ready_entry_missing", name }
  end
end

local function check_retryable(call_, flow, name, step, timer, repairs)
  local due = flow.h.inserted + tonumber(step.due)
  if due <= call_.ms then
    moves.run_again(call_, flow, name, step)
    repairs[#repairs + 1] = { "retry_due", name }
  elseif tonumber(timer or 0) ~= due then
    call.set_timer(call_, flow, "r", name, due)
    repairs[#repairs + 1] = { "retry_timer_missing", name }
  end
end

-- A lease that has passed is taken away; like a retry that is due, that is told like a repair.
local function check_executing(call_, flow, name, step, timer, repairs)
  local due = claims.due(flow, step)
  if due <= call_.ms then
    claims.lapse(call_, flow, name, step)
    repairs[#repairs + 1] = { "lease_expired", name }
  elseif tonumber(timer or 0) ~= due then
    call.set_timer(call_, flow, "l", name, due)
    repairs[#repairs + 1] = { "lease_timer_missing", name }
  end
end

-- The timers of these steps of a kind, by name.
local function timers_of(call_, flow, kind, names)
  local members, timers = {}, {}
  for i = 1, #names do
    members[i] = kind .. "|" .. flow.id .. "|" .. names[i]
  end
  if #names > 0 then
    local scores = command("ZMSCORE", call_.keys[keyslots.TIMERS], unpack(members))
    for i = 1, #names do
      timers[names[i]] = scores[i]
    end
  end
  return timers
end

-- A workflow stands in the listing once: in the group of the state that it had before this call.
local function check_index(call_, flow, repairs)
  if flow.listed then
    return -- it moves with this call
  end
  local index = call_.keys[keyslots.INDEX]
  local groups = { states.WORKFLOW_CODE[flow.was] or "o" }
  for _, group in ipairs(states.GROUPS) do
    if group ~= groups[1] then
      groups[#groups + 1] = group
    end
  end
  for i, group in ipairs(groups) do
    local member = flush.index_member(flow, group)
    local stands = command("ZSCORE", index, member)
    if i == 1 and not stands then
      command("ZADD", index, "0", member)
      repairs[#repairs + 1] = { "index_entry_missing", "" }
    elseif i > 1 and stands then
      command("ZREM", index, member)
      repairs[#repairs + 1] = { "index_entry_wrong", "" }
    end
  end
end

-- The timer that stands for all deadlines of the workflow.
local function check_wait_timer(call_, flow, repairs)
  local due = not flow.agenda and waits.next_due(flow)
  local stands = command("ZSCORE", call_.keys[keyslots.TIMERS], waits.timer(flow))
  if not flow.agenda and tonumber(stands or -1) ~= (due or -1) then
    flow.agenda = {} -- nothing to change there, but the timer follows
    repairs[#repairs + 1] = { "wait_timer_missing", "" }
  end
end

-- The timer at the end of the retention.
local function check_removal_timer(call_, flow, repairs)
  local stands = tonumber(command("ZSCORE", call_.keys[keyslots.TIMERS], header.removal_timer(flow)) or nil)
  local right = header.removal_time(flow.h, stands)
  if stands ~= right then
    call_.timers = call_.timers or {}
    call_.timers[header.removal_timer(flow)] = right and call.number(right) or false
    repairs[#repairs + 1] = { "retention_timer_missing", "" }
  end
end

-- The timer of what is left to be walked; the calls that walk move it.
local function check_walk_timer(call_, flow, repairs)
  if flow.walked then
    return
  end
  local stands = tonumber(command("ZSCORE", call_.keys[keyslots.TIMERS], walk.timer(flow)) or nil)
  local latest = call_.ms + states.GRACE_MS
  if flow.h.head < flow.h.tail and not (stands and stands <= latest) then
    call_.timers = call_.timers or {}
    call_.timers[walk.timer(flow)] = call.number(latest)
    repairs[#repairs + 1] = { "walk_timer_missing", "" }
  elseif stands and flow.h.head == flow.h.tail then
    call_.timers = call_.timers or {}
    call_.timers[walk.timer(flow)] = false
    repairs[#repairs + 1] = { "timer_wrong", "" }
  end
end

local function check_step(call_, flow, name, retry, lease, repairs)
  local state = sub(call.text(flow, name), 1, 1)
  if state == "a" then
    check_available(call_, flow, name, call.step(flow, name), repairs)
  elseif state == "r" then
    check_retryable(call_, flow, name, call.step(flow, name), retry, repairs)
  elseif state == "e" then
    check_executing(call_, flow, name, call.step(flow, name), lease, repairs)
  end
  for kind, wrong in pairs({ r = state ~= "r" and retry, l = state ~= "e" and lease }) do
    if wrong then
      call.drop_timer(call_, flow, kind, name)
      repairs[#repairs + 1] = { "timer_wrong", name }
    end
  end
end

local function check_steps(call_, flow, chunk, repairs)
  local counts, names = {}, {}
  for name in gmatch(command("HGET", flow.w, "#" .. chunk) or "", "[^,]+") do
    names[#names + 1] = name
  end
  call.fetch(flow, names)
  local found = waits.check(call_, flow, names, repairs)
  local retries, leases = timers_of(call_, flow, "r", names), timers_of(call_, flow, "l", names)
  for i = 1, #names do
    local name = names[i]
    if not flow.dirty[name] then -- else this call has just moved it
      check_step(call_, flow, name, retries[name], leases[name], repairs)
    end
  end
  claims.walk_lapsed(call_, flow)
  for i = 1, #names do
    local state = sub(call.text(flow, names[i]), 1, 1)
    if not states.NAME[state] then
      error(states.UNREADABLE) -- and so its workflow's counts could not be told
    end
    counts[state] = (counts[state] or 0) + 1
  end
  return counts, found
end

local function check_chunk(call_, flow, chunk, repairs)
  local counts, found, callbacks, open, dead = {}, {}, 0, 0, 0
  local from = match(chunk, "^@(%d+)$")
  if from then
    callbacks, open, dead = outbox.check(call_, flow, tonumber(from), repairs)
  else
    counts, found = check_steps(call_, flow, chunk, repairs)
  end
  if chunk == "0" then
    check_index(call_, flow, repairs)
    callbacks, open, dead = outbox.check(call_, flow, 1, repairs)
    check_wait_timer(call_, flow, repairs)
    check_removal_timer(call_, flow, repairs)
    check_walk_timer(call_, flow, repairs)
  end
  local reply = {}
  for i = 1, #states.CODES do
    reply[i] = counts[states.CODES[i]] or 0
  end
  reply[#reply + 1] = callbacks
  reply[#reply + 1] = open
  reply[#reply + 1] = dead
  return reply, found
end

-- The counts are a sum over all chunks, which no single call sees; they are put right only if they
-- are still what they were when the sum was begun.
local function correct_counts(call_, flow, before, counts, repairs)
  if flow.counts ~= before then
    return
  end
  for i = 1, #states.CODES do
    flow.h[states.CODES[i]] = tonumber(counts[i])
  end
  flow.h.callbacks = max(flow.h.callbacks, tonumber(counts[#states.CODES + 1]))
  flow.h.open = tonumber(counts[#states.CODES + 2])
  flow.h.dead = tonumber(counts[#states.CODES + 3])
  -- The gauges were right: each transition counts into them apart from the header.
  flow.was = states.workflow_state(flow.h)
  flow.moved = true
  local ended = states.WORKFLOW_CODE[flow.was]
  flow.cause = ended and states.workflow_cause(flow.h)
  if not ended or flow.h.finished == "" then
    flow.h.finished = ended and flow.since or ""
  end
  check_index(call_, flow, repairs)
  repairs[#repairs + 1] = { "counts_wrong", "" }
end

return function(keys, args)
  local call_ = call.open(keys)
  local flow = call.flow(call_, 1, {})
  if not flow.h or flow.h.semantics ~= states.VERSION then
    return {}
  end
  local repairs, counts, found, due = {}, {}, flow.counts, {}
  if flow.listed then
    repairs[1] = { "clock_set_back", "" }
  end
  if args[3] ~= "" then
    counts, due = check_chunk(call_, flow, args[3], repairs)
  else
    correct_counts(call_, flow, args[4], { unpack(args, 5) }, repairs)
  end
  for i = 1, #repairs do
    call.count(call_, "rr|" .. repairs[i][1], 1)
  end
  if #repairs > 0 then
    flush.commit(call_, args[1])
  end
  return { repairs, found, flow.counts, counts, due }
end
