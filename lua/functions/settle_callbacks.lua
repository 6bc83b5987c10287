-- settle_callbacks: tells what became of callbacks that were claimed.
--
-- Keys: the partition's, then each workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before; then for each of at most 64 callbacks: slot, number,
--   the token of its claim, and when it has failed a random number in [0,1) for the jitter and what failed,
--   else twice "".
-- Reply: {}.
-- Bound: 64 callbacks.
-- Writes: the callbacks' records, the outbox, statistics, the header when a callback is over, evidence.
--   Publishes nothing.
--
-- What an outdated claim reports counts only if its handler did its work. The next callback of a workflow is
-- due as soon as the one before it is over.
local FIRST_ITEM, WIDTH = 3, 5

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

return function(keys, args)
  local tx = transaction.open(keys)
  for at = FIRST_ITEM, #args, WIDTH do
    local slot, jitter = tonumber(args[at]), args[at + 3]
    local workflow = tx.workflows[slot] or transaction.workflow(tx, slot, {})
    local item = outbox.item(args[at + 1], args[at + 2])
    local c = workflow.h and workflow.h.semantics == states.VERSION and outbox.read(workflow, item.number)
    if c and jitter == "" then
      delivered(tx, workflow, item, c)
    elseif c then
      failed(tx, workflow, item, c, jitter, args[at + 4])
    end
  end
  flush.commit(tx, args[1])
  return {}
end
