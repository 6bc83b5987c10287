-- repair_workflow: compares one chunk of a workflow's steps with its derived keys, and repairs these. Returns what
-- the topics of its waits are to be notified of. The first chunk's call also checks what belongs to no single step.
--
-- Bound: one chunk (200) of steps with their waits; the budget of edges for leases that it takes away.
-- Writes: ready queue, timers, pending notices, index, counts; retries that are due become available,
--   leases that have passed are taken away, waits whose deadline has passed expire. Nothing is written
--   on a healthy workflow.

local DUE = { b = "start_due", d = "deadline_due" }
local MISSING = { b = "start_timer_missing", d = "deadline_timer_missing" }

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

-- Takes a lease away that has passed. Like a due retry, that is reported as a repair.
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

-- The timers of one kind of these steps, by name.
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

-- Checks the one timer of all deadlines of the workflow's waits.
local function check_wait_timer(tx, workflow, repairs)
  local due = not workflow.notices and waits.next_due(workflow)
  local score = command("ZSCORE", tx.keys[keyslots.TIMERS], waits.timer(workflow))
  if not workflow.notices and tonumber(score or -1) ~= (due or -1) then
    workflow.notices = {} -- no notice changes, but the timer follows
    repairs[#repairs + 1] = { "wait_timer_missing", "" }
  end
end

-- Checks the timer at the end of the retention.
local function check_removal_timer(tx, workflow, repairs)
  local score = tonumber(command("ZSCORE", tx.keys[keyslots.TIMERS], header.removal_timer(workflow)) or nil)
  local right = header.removal_time(workflow.h, score)
  if score ~= right then
    tx.timers = tx.timers or {}
    tx.timers[header.removal_timer(workflow)] = right and integer.text(right) or false
    repairs[#repairs + 1] = { "retention_timer_missing", "" }
  end
end

-- Checks the timer of an unfinished walk; the calls that walk move it.
local function check_walk_timer(tx, workflow, repairs)
  if workflow.walked then
    return
  end
  local score = tonumber(command("ZSCORE", tx.keys[keyslots.TIMERS], propagate.timer(workflow)) or nil)
  local latest = tx.ms + states.GRACE_MS
  if workflow.h.head < workflow.h.tail and not (score and score <= latest) then
    tx.timers = tx.timers or {}
    tx.timers[propagate.timer(workflow)] = integer.text(latest)
    repairs[#repairs + 1] = { "slice_timer_missing", "" }
  elseif score and workflow.h.head == workflow.h.tail then
    tx.timers = tx.timers or {}
    tx.timers[propagate.timer(workflow)] = false
    repairs[#repairs + 1] = { "timer_wrong", "" }
  end
end

-- Checks the timers of a start and of a deadline, and carries out one that is due.
local function check_dues(tx, workflow, repairs)
  local before = branching.dues(workflow)
  requests.fire(tx, workflow)
  local after = branching.dues(workflow)
  for kind, missing in pairs(MISSING) do
    local score = tonumber(command("ZSCORE", tx.keys[keyslots.TIMERS], kind .. "|" .. workflow.id) or nil)
    local fired = before[kind] ~= after[kind]
    if fired or score ~= after[kind] then
      branching.place_timer(tx, workflow, kind, after[kind])
      repairs[#repairs + 1] = { fired and DUE[kind] or missing, "" }
    end
  end
end

local function check_step(tx, workflow, name, retry, lease, repairs)
  local state = codec.step_state(transaction.text(workflow, name) or error(states.UNREADABLE))
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

-- How many of these steps were skipped, and how many superseded.
local function marked_of(workflow, names)
  local skipped, superseded = 0, 0
  for i = 1, #names do
    local step = transaction.step(workflow, names[i])
    skipped = skipped + (branching.is_skipped(step) and 1 or 0)
    superseded = superseded + (branching.is_superseded(step) and 1 or 0)
  end
  return { skipped, superseded }
end

local function check_steps(tx, workflow, chunk, repairs)
  local counts, names = {}, {}
  local chunk_text = command("HGET", workflow.w, "#" .. integer.text(chunk))
  if not chunk_text then
    error(states.UNREADABLE) -- a corrupt header may claim any number of steps
  end
  for name in gmatch(chunk_text, "[^,]+") do
    names[#names + 1] = name
  end
  transaction.fetch(workflow, names)
  local found = expiry.check(tx, workflow, names, repairs)
  local retry_timers, lease_timers = timers_of(tx, workflow, "r", names), timers_of(tx, workflow, "l", names)
  for i = 1, #names do
    local name = names[i]
    if not workflow.dirty[name] then -- otherwise this call has just moved it
      check_step(tx, workflow, name, retry_timers[name], lease_timers[name], repairs)
    end
  end
  claims.walk_lapsed(tx, workflow)
  for i = 1, #names do
    local state = codec.step_state(transaction.text(workflow, names[i]))
    if not states.NAME[state] then
      error(states.UNREADABLE) -- so its workflow's counts could not be summed
    end
    counts[state] = (counts[state] or 0) + 1
  end
  local in_order = {}
  for i = 1, #states.CODES do
    in_order[i] = counts[states.CODES[i]] or 0
  end
  return in_order, found, workflow.b and marked_of(workflow, names) or { 0, 0 }
end

-- Checks what belongs to no single step; done with the first chunk.
local function check_whole(tx, workflow, repairs)
  repair.check_index(tx, workflow, repairs)
  repair.check_tags(tx, workflow, repairs)
  check_wait_timer(tx, workflow, repairs)
  check_removal_timer(tx, workflow, repairs)
  if workflow.b then
    check_dues(tx, workflow, repairs)
  end
  if workflow.link and not waits.has_link_placed(workflow) then
    waits.place_link(tx, workflow)
    repairs[#repairs + 1] = { "wait_timer_missing", "" }
  end
  check_walk_timer(tx, workflow, repairs)
end

return function(tx, chunk)
  local workflow = transaction.workflow(tx, 1, {})
  if not workflow.h or not states.IMPLEMENTED[workflow.h.semantics] then
    return false
  end
  local repairs, before = {}, branching.counts(workflow)
  if workflow.listed then
    repairs[1] = { "clock_set_back", "" }
  end
  local counts, notices, marked = check_steps(tx, workflow, chunk, repairs)
  if chunk == 0 then
    check_whole(tx, workflow, repairs)
  end
  repair.finish(tx, repairs)
  local after = branching.counts(workflow)
  return { repairs, before, after, counts, notices, marked }
end
