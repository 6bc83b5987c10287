-- repair_keys: repairs what belongs to no single step. Derived keys that were overwritten with another type are
-- removed, and so are the pending notices of a workflow that does not exist. An unfinished insert that is missing in
-- the list of staged inserts is listed again, and an unfinished removal gets its timer back.
--
-- Bound: 64 workflows, and the eight derived keys.
-- Writes: the derived keys named above, statistics; nothing where all is right.
local DERIVED = {
  keyslots.READY, keyslots.TIMERS, keyslots.INDEX, keyslots.STAGED, keyslots.OUTBOX,
  keyslots.RESERVED, keyslots.SERVED, keyslots.TAGS,
}

local UNREADABLE = "?" -- the semantics of such a record

local function add_repair(plan, kind)
  plan.repairs[#plan.repairs + 1] = kind
end

local function check_type(plan, key)
  if not transaction.is_type(key, "zset") then
    add_repair(plan, "key_overwritten")
    plan.gone[#plan.gone + 1] = key
    return false
  end
  return true
end

-- Whether an unfinished insert is in the list of these.
local function is_listed(tx, plan, id)
  return plan.has_staged and command("ZSCORE", tx.keys[keyslots.STAGED], id)
end

local function visit(tx, plan, slot)
  local w, p, _, _, d = keyslots.workflow(tx.keys, slot)
  if not transaction.is_type(w, "hash") then
    return UNREADABLE
  end
  local static = command("HGET", w, ":s")
  if check_type(plan, d) and not static and command("EXISTS", d) == 1 then
    add_repair(plan, "wait_notice_wrong")
    plan.gone[#plan.gone + 1] = d
  end
  if header.is_staged(w, p) and not is_listed(tx, plan, keyslots.id(w)) then
    add_repair(plan, "staged_entry_missing")
    plan.staged[keyslots.id(w)] = integer.text(tx.ms + states.INSERT_MS)
  end
  local timer = header.removal_timer({ id = keyslots.id(w) })
  if
    not static and header.is_being_removed(w)
    and not (plan.has_timers and command("ZSCORE", tx.keys[keyslots.TIMERS], timer))
  then
    add_repair(plan, "retention_timer_missing")
    plan.timers[timer] = integer.text(tx.ms)
  end
  return static and (codec.header_semantics(static) or UNREADABLE) or ""
end

return function(keys)
  local tx = transaction.open(keys)
  local plan, found = { repairs = {}, gone = {}, staged = {}, timers = {} }, {}
  for i = 1, #DERIVED do
    local is_right = check_type(plan, keys[DERIVED[i]])
    if DERIVED[i] == keyslots.STAGED then
      plan.has_staged = is_right
    elseif DERIVED[i] == keyslots.TIMERS then
      plan.has_timers = is_right
    end
  end
  for slot = 1, (#keys - keyslots.FIRST_WORKFLOW + 1) / keyslots.WORKFLOW_STRIDE do
    found[slot] = visit(tx, plan, slot)
  end
  if #plan.repairs > 0 then
    if #plan.gone > 0 then
      command("UNLINK", unpack(plan.gone))
    end
    transaction.write_members(keys[keyslots.STAGED], plan.staged)
    transaction.write_members(keys[keyslots.TIMERS], plan.timers)
    for i = 1, #plan.repairs do
      transaction.count(tx, "rr|" .. plan.repairs[i], 1)
    end
    flush.commit(tx)
  end
  return { plan.repairs, found }
end
