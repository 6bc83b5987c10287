-- claim_callbacks: leases callbacks of the outbox to a dispatcher, which is to deliver and then settle them.
--
-- Bound: 64 callbacks.
-- Writes: the callbacks' records, the outbox, statistics, the header when the number of dead ones changes,
--   evidence. Publishes nothing.
--
-- The callbacks of a workflow are sent in order. Where an earlier one has not been delivered, it is claimed instead when
-- it is due; otherwise the later one waits for it. A claim ends when it is settled, or when its lease has passed and
-- another claim takes over, which counts as a failure.

local function claimed(workflow, c)
  return {
    "claimed", c.number, codec.write_callback(c), workflow.static, workflow.raw[":key"], workflow.was,
    workflow.tags or false,
  }
end

local function is_due(workflow, c)
  return c.due ~= "" and tonumber(c.due) <= tonumber(workflow.since)
end

-- Whether this very call has claimed the callback before, and its reply was lost.
local function is_held(item, c)
  return c.status == "l" and c.token == item.call
end

-- Takes back a claim whose lease has passed. Returns whether the callback is still to be delivered.
local function take_back(tx, workflow, item, c)
  if c.status == "l" then
    outbox.failed(tx, workflow, item, c, 0, "never acknowledged")
  end
  return c.status ~= "x"
end

local function lease(tx, workflow, item, c, lease_ms)
  if not take_back(tx, workflow, item, c) then
    return { "none" }
  end
  c.attempts, c.token = integer.text(c.attempts + 1), item.call
  outbox.move(tx, workflow, c, "l", integer.text(workflow.since + lease_ms))
  return claimed(workflow, c)
end

local function claim(tx, workflow, item, lease_ms)
  if workflow.h and not states.IMPLEMENTED[workflow.h.semantics] then
    return { "other" }
  end
  local c = workflow.h and outbox.read(workflow, item.number)
  if not c then
    outbox.drop(tx, workflow, item.number)
    return { "none" }
  end
  if is_held(item, c) then
    return claimed(workflow, c)
  end
  if not is_due(workflow, c) then
    outbox.place(tx, workflow, c)
    return { "none" }
  end
  local before = outbox.open_before(workflow, c)
  if before and is_held(item, before) then
    return claimed(workflow, before)
  end
  if before and not is_due(workflow, before) then
    if take_back(tx, workflow, item, c) then
      outbox.move(tx, workflow, c, "p", before.due)
    end
    return { "none" }
  end
  return lease(tx, workflow, item, before or c, lease_ms)
end

return function(tx, lease_ms, callbacks)
  local replies = {}
  for i = 1, #callbacks do
    local callback = callbacks[i]
    local workflow = tx.workflows[callback.slot] or transaction.workflow(tx, callback.slot, { ":key" })
    replies[i] = claim(tx, workflow, outbox.item(callback.number, callback.token), lease_ms)
  end
  flush.commit(tx)
  return replies
end
