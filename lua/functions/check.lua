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

local function check_available(tx, workflow, name, step, repairs)
  local keys = tx.keys
  local member = queue.member(workflow, name, step.class, step.order)
  if not (command("ZSCORE", keys[keyslots.READY], member) or command("ZSCORE", keys[keyslots.RESERVED], member)) then
    tx.queued[member] = true
    repairs[#repairs + 1] = { "ready_entry_missing", name }
  end
end

local function check_retryable(tx, workflow, name, step, timer, repairs)
  local due = workflow.h.inserted + tonumber(step.due)
  if due <= tx.ms then
    transitions.run_again(tx, workflow, name, step)
    repairs[#repairs + 1] = { "retry_due", name }
  elseif tonumber(timer or 0) ~= due then
    transaction.set_timer(tx, workflow, "r", name, due)
    repairs[#repairs + 1] = { "retry_timer_missing", name }
  end
end

-- A lease that has passed is taken away; like a retry that is due, that is told like a repair.
local function check_executing(tx, workflow, name, step, timer, repairs)
  local due = claims.due(workflow, step)
  if due <= tx.ms then
    claims.lapse(tx, workflow, name, step)
    repairs[#repairs + 1] = { "lease_expired", name }
  elseif tonumber(timer or 0) ~= due then
    transaction.set_timer(tx, workflow, "l", name, due)
    repairs[#repairs + 1] = { "lease_timer_missing", name }
  end
end

-- The timers of these steps of a kind, by name.
local function timers_of(tx, workflow, kind, names)
  local members, timers = {}, {}
  for i = 1, #names do
    members[i] = kind .. "|" .. workflow.id .. "|" .. names[i]
  end
  if #names > 0 then
    local scores = command("ZMSCORE", tx.keys[keyslots.TIMERS], unpack(members))
    for i = 1, #names do
      timers[names[i]] = scores[i]
    end
  end
  return timers
end

-- A workflow stands in the listing once: in the group of the state that it had before this call.
local function check_index(tx, workflow, repairs)
  if workflow.listed then
    return -- it moves with this call
  end
  local index = tx.keys[keyslots.INDEX]
  local groups = { states.WORKFLOW_CODE[workflow.was] or "o" }
  for _, group in ipairs(states.GROUPS) do
    if group ~= groups[1] then
      groups[#groups + 1] = group
    end
  end
  for i, group in ipairs(groups) do
    local member = flush.index_member(workflow, group)
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
local function check_wait_timer(tx, workflow, repairs)
  local due = not workflow.agenda and waits.next_due(workflow)
  local stands = command("ZSCORE", tx.keys[keyslots.TIMERS], waits.timer(workflow))
  if not workflow.agenda and tonumber(stands or -1) ~= (due or -1) then
    workflow.agenda = {} -- nothing to change there, but the timer follows
    repairs[#repairs + 1] = { "wait_timer_missing", "" }
  end
end

-- The timer at the end of the retention.
local function check_removal_timer(tx, workflow, repairs)
  local stands = tonumber(command("ZSCORE", tx.keys[keyslots.TIMERS], header.removal_timer(workflow)) or nil)
  local right = header.removal_time(workflow.h, stands)
  if stands ~= right then
    tx.timers = tx.timers or {}
    tx.timers[header.removal_timer(workflow)] = right and transaction.number(right) or false
    repairs[#repairs + 1] = { "retention_timer_missing", "" }
  end
end

-- The timer of what is left to be walked; the calls that walk move it.
local function check_walk_timer(tx, workflow, repairs)
  if workflow.walked then
    return
  end
  local stands = tonumber(command("ZSCORE", tx.keys[keyslots.TIMERS], propagate.timer(workflow)) or nil)
  local latest = tx.ms + states.GRACE_MS
  if workflow.h.head < workflow.h.tail and not (stands and stands <= latest) then
    tx.timers = tx.timers or {}
    tx.timers[propagate.timer(workflow)] = transaction.number(latest)
    repairs[#repairs + 1] = { "walk_timer_missing", "" }
  elseif stands and workflow.h.head == workflow.h.tail then
    tx.timers = tx.timers or {}
    tx.timers[propagate.timer(workflow)] = false
    repairs[#repairs + 1] = { "timer_wrong", "" }
  end
end

local function check_step(tx, workflow, name, retry, lease, repairs)
  local state = sub(transaction.text(workflow, name), 1, 1)
  if state == "a" then
    check_available(tx, workflow, name, transaction.step(workflow, name), repairs)
  elseif state == "r" then
    check_retryable(tx, workflow, name, transaction.step(workflow, name), retry, repairs)
  elseif state == "e" then
    check_executing(tx, workflow, name, transaction.step(workflow, name), lease, repairs)
  end
  for kind, wrong in pairs({ r = state ~= "r" and retry, l = state ~= "e" and lease }) do
    if wrong then
      transaction.drop_timer(tx, workflow, kind, name)
      repairs[#repairs + 1] = { "timer_wrong", name }
    end
  end
end

local function check_steps(tx, workflow, chunk, repairs)
  local counts, names = {}, {}
  for name in gmatch(command("HGET", workflow.w, "#" .. chunk) or "", "[^,]+") do
    names[#names + 1] = name
  end
  transaction.fetch(workflow, names)
  local found = waits.check(tx, workflow, names, repairs)
  local retries, leases = timers_of(tx, workflow, "r", names), timers_of(tx, workflow, "l", names)
  for i = 1, #names do
    local name = names[i]
    if not workflow.dirty[name] then -- else this call has just moved it
      check_step(tx, workflow, name, retries[name], leases[name], repairs)
    end
  end
  claims.walk_lapsed(tx, workflow)
  for i = 1, #names do
    local state = sub(transaction.text(workflow, names[i]), 1, 1)
    if not states.NAME[state] then
      error(states.UNREADABLE) -- and so its workflow's counts could not be told
    end
    counts[state] = (counts[state] or 0) + 1
  end
  return counts, found
end

local function check_chunk(tx, workflow, chunk, repairs)
  local counts, found, callbacks, open, dead = {}, {}, 0, 0, 0
  local from = match(chunk, "^@(%d+)$")
  if from then
    callbacks, open, dead = outbox.check(tx, workflow, tonumber(from), repairs)
  else
    counts, found = check_steps(tx, workflow, chunk, repairs)
  end
  if chunk == "0" then
    check_index(tx, workflow, repairs)
    callbacks, open, dead = outbox.check(tx, workflow, 1, repairs)
    check_wait_timer(tx, workflow, repairs)
    check_removal_timer(tx, workflow, repairs)
    check_walk_timer(tx, workflow, repairs)
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
local function correct_counts(tx, workflow, before, counts, repairs)
  if workflow.counts ~= before then
    return
  end
  for i = 1, #states.CODES do
    workflow.h[states.CODES[i]] = tonumber(counts[i])
  end
  workflow.h.callbacks = max(workflow.h.callbacks, tonumber(counts[#states.CODES + 1]))
  workflow.h.open = tonumber(counts[#states.CODES + 2])
  workflow.h.dead = tonumber(counts[#states.CODES + 3])
  -- The gauges were right: each transition counts into them apart from the header.
  workflow.was = states.workflow_state(workflow.h)
  workflow.moved = true
  local ended = states.WORKFLOW_CODE[workflow.was]
  workflow.cause = ended and states.workflow_cause(workflow.h)
  if not ended or workflow.h.finished == "" then
    workflow.h.finished = ended and workflow.since or ""
  end
  check_index(tx, workflow, repairs)
  repairs[#repairs + 1] = { "counts_wrong", "" }
end

return function(keys, args)
  local tx = transaction.open(keys)
  local workflow = transaction.workflow(tx, 1, {})
  if not workflow.h or workflow.h.semantics ~= states.VERSION then
    return {}
  end
  local repairs, counts, found, due = {}, {}, workflow.counts, {}
  if workflow.listed then
    repairs[1] = { "clock_set_back", "" }
  end
  if args[3] ~= "" then
    counts, due = check_chunk(tx, workflow, args[3], repairs)
  else
    correct_counts(tx, workflow, args[4], { unpack(args, 5) }, repairs)
  end
  for i = 1, #repairs do
    transaction.count(tx, "rr|" .. repairs[i][1], 1)
  end
  if #repairs > 0 then
    flush.commit(tx, args[1])
  end
  return { repairs, found, workflow.counts, counts, due }
end
