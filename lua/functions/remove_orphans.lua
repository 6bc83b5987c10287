-- remove_orphans: compares entries of a derived sorted set with the records: removes those that these do not imply,
-- and corrects wrong scores.
--
-- Bound: 200 entries of at most 64 workflows.
-- Writes: the set, timers of workflows whose pending notices have changed, statistics. Where all entries are
--   right it only reads. Entries that are gone, or belong to a workflow of other semantics, are left alone.
local SLOT = {
  ready = keyslots.READY, reserved = keyslots.RESERVED, timers = keyslots.TIMERS,
  outbox = keyslots.OUTBOX, index = keyslots.INDEX, staged = keyslots.STAGED, tags = keyslots.TAGS,
}
local KIND = {
  ready = "ready_entry_wrong", reserved = "reserved_entry_wrong", timers = "timer_wrong",
  outbox = "callback_entry_wrong", index = "index_entry_wrong", staged = "staged_entry_wrong",
  wait_notices = "wait_notice_wrong", tags = "tag_entry_wrong",
}

-- The score that the records imply for an entry, or false; and whether it may have a lower one.
local EXPECTED = {}

local function is_queued(workflow, entry)
  local step = transaction.step(workflow, entry.step)
  return step and step.state == "a"
    and queue.member(workflow, entry.step, step.class, step.order) == entry.member
end

function EXPECTED.ready(_, workflow, entry)
  return is_queued(workflow, entry) and "0"
end

function EXPECTED.reserved(tx, workflow, entry)
  local is_ready = command("ZSCORE", tx.keys[keyslots.READY], entry.member)
  return is_queued(workflow, entry) and not is_ready and integer.text(tx.ms + states.RESERVED_MS), true
end

-- When a timer is due, by its kind.
local DUE = {
  w = function(_, workflow) return waits.next_due(workflow) end,
  u = function(tx, workflow) return workflow.h.head < workflow.h.tail and tx.ms + states.GRACE_MS end,
  x = function(_, workflow, _, score) return header.removal_time(workflow.h, score) end,
  r = function(_, workflow, step) return step and step.state == "r" and workflow.h.inserted + step.due end,
  b = function(_, workflow) return branching.start_due(workflow) end,
  d = function(_, workflow) return branching.deadline_due(workflow) end,
  l = function(_, workflow, step) return step and step.state == "e" and claims.due(workflow, step) end,
}

function EXPECTED.timers(tx, workflow, entry, score)
  local kind = sub(entry.member, 1, 1)
  local due = DUE[kind](tx, workflow, entry.step ~= "" and transaction.step(workflow, entry.step), score)
  return due and integer.text(due), kind == "u"
end

function EXPECTED.outbox(_, workflow, entry)
  local callback = outbox.read(workflow, entry.step)
  return callback and outbox.score(workflow, callback)
end

function EXPECTED.index(_, workflow, entry)
  return entry.member == header.index_member(workflow, states.WORKFLOW_CODE[workflow.was] or "o") and "0"
end

function EXPECTED.tags(_, workflow, entry)
  local members = transaction.tag_members(workflow, header.place(workflow))
  for i = 1, #members do
    if members[i] == entry.member then
      return "0"
    end
  end
end

function EXPECTED.staged(tx, workflow, entry)
  local is_staged
  if entry.step ~= "" then
    is_staged = command("HEXISTS", workflow.p, "+" .. entry.step) == 1
  else
    is_staged = header.is_staged(workflow.w, workflow.p)
  end
  return is_staged and integer.text(tx.ms + states.INSERT_MS), true
end

function EXPECTED.wait_notices(tx, workflow, entry)
  return waits.implied(tx, workflow, entry.member)
end

-- The change that an entry needs: a new score, false to remove it, nil to leave it.
local function judge(tx, set, workflow, entry, score)
  if not workflow then
    return false
  end
  if not workflow.h and set ~= "staged" then
    if entry.member == header.removal_timer(workflow) and header.is_being_removed(workflow.w) then
      return nil
    end
    return false
  end
  if workflow.h and not states.IMPLEMENTED[workflow.h.semantics] then
    return nil
  end
  local right, may_be_earlier = EXPECTED[set](tx, workflow, entry, score)
  local due = tonumber(right or nil)
  if due and (score == due or (may_be_earlier and score < due)) then
    return nil
  end
  return right or false
end

-- The steps that the entries name, by slot.
local function steps_of(entries)
  local names = {}
  for i = 1, #entries do
    local entry = entries[i]
    if entry.slot > 0 then
      names[entry.slot] = names[entry.slot] or {}
      table.insert(names[entry.slot], entry.step)
    end
  end
  return names
end

-- Where the changes of an entry's set are planned.
local function plan_of(set, workflow, changes)
  if set == "wait_notices" then
    workflow.notices = workflow.notices or {} -- the workflow's timer follows
    return workflow.notices
  end
  return changes
end

return function(keys, set, entries)
  local tx, key, names = transaction.open(keys), keys[SLOT[set]], steps_of(entries)
  for slot = 1, #names do
    transaction.workflow(tx, slot, names[slot])
  end
  local changes, wrong = {}, 0
  for i = 1, #entries do
    local entry, workflow = entries[i], tx.workflows[entries[i].slot]
    local score = command("ZSCORE", key or keyslots.other(workflow.w, "d"), entry.member)
    local place = score and judge(tx, set, workflow, entry, tonumber(score))
    if score and place ~= nil then
      plan_of(set, workflow, changes)[entry.member] = place
      wrong = wrong + 1
    end
  end
  if wrong > 0 then
    transaction.write_members(key, changes)
    transaction.count(tx, "rr|" .. KIND[set], wrong)
    flush.commit(tx)
  end
  return { KIND[set], wrong }
end
