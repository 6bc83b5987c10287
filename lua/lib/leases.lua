-- Whole calls on claims: starting reserved entries; and claims named by their holders, {slot, step, lease}: which
-- leases are still valid, and giving claims back.
local M = {}

-- Starts the steps of reserved entries. Returns the claims (dispatch.lua), and for each workflow whether the topics of
-- its waits are to be notified.
function M.start_reserved(tx, claimer, entries, as_tickets)
  local names = transaction.steps_by_slot({}, entries)
  for slot = 1, #names do
    expiry.expire(tx, transaction.workflow(tx, slot, names[slot]), {})
  end
  local started, has_notices = dispatch.start_all(tx, entries, claimer), {}
  flush.commit(tx)
  for slot = 1, #names do
    has_notices[slot] = tx.workflows[slot].h and waits.flag(tx.workflows[slot]) or ""
  end
  return { dispatch.reply(started, dispatch.room(), as_tickets), has_notices }
end

-- Opens the workflows of claims, and ends their waits whose deadline has passed.
function M.open(tx, held)
  local names = transaction.steps_by_slot({}, held)
  for slot = 1, #names do
    expiry.expire(tx, transaction.workflow(tx, slot, names[slot]), {})
  end
end

-- The workflow and the step of a claim whose lease is the step's current one; nothing for any other.
function M.current(tx, claim)
  local workflow = tx.workflows[claim.slot]
  local step = workflow.h and states.IMPLEMENTED[workflow.h.semantics] and transaction.step(workflow, claim.step)
  if step and claims.is_current(step, claim.lease) then
    return workflow, step
  end
  return nil
end

-- Gives claimed steps back, each with give(tx, workflow, name, step, reason). Returns which leases were still valid.
function M.give_back(tx, held, give, reason)
  M.open(tx, held)
  local stood = {}
  for i = 1, #held do
    local workflow, step = M.current(tx, held[i])
    if step then
      give(tx, workflow, held[i].step, step, reason)
    end
    stood[i] = step and "1" or ""
  end
  flush.commit(tx)
  return stood
end

return M
