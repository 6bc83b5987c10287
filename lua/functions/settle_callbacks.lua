-- settle_callbacks: records the outcomes of claimed callbacks.
--
-- Bound: 64 callbacks.
-- Writes: the callbacks' records, the outbox, statistics, the header when a callback is over, evidence.
--   Publishes nothing.
--
-- The report of an outdated claim counts only if its handler succeeded. The next callback of a workflow is due as soon
-- as the one before it is over.

local function stale(tx, workflow, item)
  evidence.reject(tx, workflow, item, "stale_lease", "the claim is not the callback's current one")
end

local function delivered(tx, workflow, item, c)
  if c.token == "" then
    stale(tx, workflow, item) -- sent again since, and not claimed yet
  elseif c.status ~= "d" then
    c.token = item.call
    outbox.delivered(tx, workflow, c)
  elseif c.token ~= item.call then
    evidence.duplicate(tx, workflow, item, "duplicate_delivery")
  end
end

local function failed(tx, workflow, item, c, jitter, why)
  if c.token ~= item.call then
    stale(tx, workflow, item)
  elseif c.status == "l" then
    local delay = backoff.delay_ms("", tonumber(c.attempts), tonumber(jitter))
    outbox.failed(tx, workflow, item, c, delay, why)
  end
end

return function(tx, callbacks)
  for i = 1, #callbacks do
    local callback = callbacks[i]
    local workflow = tx.workflows[callback.slot] or transaction.workflow(tx, callback.slot, {})
    local item = outbox.item(callback.number, callback.token)
    local c = workflow.h and states.IMPLEMENTED[workflow.h.semantics] and outbox.read(workflow, item.number)
    if c and not callback.failure then
      delivered(tx, workflow, item, c)
    elseif c then
      failed(tx, workflow, item, c, callback.jitter, callback.failure)
    end
  end
  flush.commit(tx)
end
