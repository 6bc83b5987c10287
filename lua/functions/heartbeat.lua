-- heartbeat: extends leases, gives unstarted steps back, at once or for a while, or has them wait for a missing
-- result.
--
-- Keys: the partition's, then each workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, what to do ("x" extend, "b" give back, "m" a result
--   is missing, or why to give back for a while: pauses.lua), the lease in milliseconds, or ""; then for each
--   claim: slot, step, lease.
-- Reply: for each claim the time when its lease ends (ms), 0 for one that was given back, or nil when the
--   lease was lost; and "1" behind it when the step's workflow is asked to end. A repeated giving back is
--   told as lost, which it is.
-- Writes: records, counts, pauses and their evidence, ready queue, timers, statistics.
-- Publishes: step_available, workflow_terminal.
local FIRST_CLAIM, WIDTH = 5, 3

local function carry_out(tx, workflow, name, step, what, lease_ms)
  if what == "x" then
    claims.extend(tx, workflow, name, step, lease_ms)
    return integer.text(claims.due(workflow, step))
  end
  if what == "b" then
    claims.hand_back(tx, workflow, name, step)
  elseif what == "m" then
    claims.block(tx, workflow, name, step)
  else
    pauses.begin(tx, workflow, name, step, what)
  end
  return "0"
end

return function(keys, args)
  local tx, names = transaction.open(keys), {}
  for at = FIRST_CLAIM, #args, WIDTH do
    local slot = tonumber(args[at])
    names[slot] = names[slot] or {}
    table.insert(names[slot], args[at + 1])
  end
  for slot = 1, #names do
    expiry.expire(tx, transaction.workflow(tx, slot, names[slot]), {})
  end
  local reply = {}
  for at = FIRST_CLAIM, #args, WIDTH do
    local workflow, name = tx.workflows[tonumber(args[at])], args[at + 1]
    local step = workflow.h and workflow.h.semantics == states.VERSION and transaction.step(workflow, name)
    local held = step and claims.lease(step) == args[at + 2] and args[at + 2] ~= ""
    reply[#reply + 1] = held and carry_out(tx, workflow, name, step, args[3], args[4]) or false
    reply[#reply + 1] = held and workflow.h.cancel ~= "" and "1" or ""
  end
  flush.commit(tx, args[1])
  return reply
end
