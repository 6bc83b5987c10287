-- repair_topic: compares some of a topic's registrations with its record, and repairs them and its timer.
--
-- Bound: about 100 fields or members; of fields 250 KB, and one scan of 2 beyond; or all of a hash or set that
--   the server keeps packed (512 of at most 64 bytes by default).
-- Writes: the topic's sorted set, timers, statistics; nothing where all is right.
local FIELDS_PER_PAGE = 100
-- Signals' payloads are among the fields and are read with them, so a scan takes few fields, and all scans of a call
-- end at this many bytes.
local FIELDS_PER_SCAN, BYTES_PER_PAGE = "2", 250000

local function change(plan, member, score, kind)
  plan.members[member] = score
  plan.repairs[#plan.repairs + 1] = kind
end

-- Finds entries of the set that the record does not imply.
local function look_at_set(t, plan, cursor)
  local found = command("ZSCAN", t.set, cursor, "COUNT", integer.text(FIELDS_PER_PAGE))
  for at = 1, #found[2], 2 do
    local member = found[2][at]
    if not topic.implies(t, member) then
      change(plan, member, false, "registration_wrong")
    elseif tonumber(found[2][at + 1]) ~= 0 then
      change(plan, member, true, "registration_wrong")
    end
  end
  return found[1], {}
end

-- Adds the entries that the record implies and the set lacks.
local function look_at_hash(t, plan, cursor)
  local open_waits, fields, bytes = {}, 0, 0
  repeat
    local found = command("HSCAN", t.hash, cursor, "COUNT", FIELDS_PER_SCAN)
    for at = 1, #found[2], 2 do
      local member, workflow_id, step, n, state = topic.registration(found[2][at], found[2][at + 1])
      if member then
        open_waits[#open_waits + 1] = { workflow_id, step, n, state }
        if not command("ZSCORE", t.set, member) then
          change(plan, member, true, "registration_missing")
        end
      end
      fields, bytes = fields + 1, bytes + #found[2][at + 1]
    end
    cursor = found[1]
  until cursor == "0" or fields >= FIELDS_PER_PAGE or bytes >= BYTES_PER_PAGE
  return cursor, open_waits
end

local function check_timer(tx, t, plan)
  local score = command("ZSCORE", tx.keys[keyslots.TIMERS], topic.timer(t))
  local due = topic.due(tx, t)
  if score and not due then
    plan.repairs[#plan.repairs + 1] = "timer_wrong"
  elseif due and not (score and tonumber(score) <= tonumber(due)) then
    plan.repairs[#plan.repairs + 1] = "handoff_timer_missing"
  else
    return
  end
  tx.timers = { [topic.timer(t)] = due }
end

-- Without its record, or overwritten with another type, the set means nothing.
local function is_void(t)
  return command("EXISTS", t.hash) == 0 or not transaction.is_type(t.set, "zset")
end

return function(keys, of_record, cursor)
  local tx = transaction.open(keys)
  local t = topic.open(tx, "", "")
  local plan = { members = {}, repairs = {} }
  local void, where, open_waits = is_void(t) and command("EXISTS", t.set) == 1, "0", {}
  if void then
    plan.repairs[1] = "key_overwritten"
  else
    where, open_waits = (of_record and look_at_hash or look_at_set)(t, plan, cursor)
  end
  check_timer(tx, t, plan)
  if #plan.repairs > 0 then
    if void then
      command("UNLINK", t.set)
    end
    transaction.write_members(t.set, plan.members)
    for i = 1, #plan.repairs do
      transaction.count(tx, "rr|" .. plan.repairs[i], 1)
    end
    flush.commit(tx)
  end
  local name = command("HGET", t.hash, ":")
  return { plan.repairs, where, name and codec.topic_name(name), open_waits }
end
