-- retain: sets how long a workflow is kept once it has finished.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, the call id, the retention in milliseconds, "" for ever, the
--   client's note.
-- Reply: {"accepted", static, counts, context}, or {"rejected", reason, stamp, message}.
-- Writes: the header, the timer at the end of the retention, evidence.
local function text_of(kept)
  return kept == "" and "for ever" or "for " .. kept .. " ms"
end

local function accept(tx, workflow, item, kept)
  local before, after = match(workflow.static, "^(%d+,%d+,%d+,%d+,)%d*(,.*)$")
  local message = "kept " .. text_of(kept) .. " once it has finished, not " .. text_of(workflow.h.kept)
  evidence.accept(tx, workflow, item, "accepted", "", message)
  workflow.static, workflow.h.kept = before .. kept .. after, kept
  transaction.set(workflow, ":s", workflow.static)
  workflow.h.review, workflow.marked = "", true
end

return function(keys, args)
  local tx = transaction.open(keys)
  local workflow, again = transaction.workflow(tx, 1, {}), args[2] == "1"
  local item = { action = "set_retention", scope = "workflow", step = "", call = args[3], note = args[5] }
  local refused = evidence.refuse_workflow(tx, workflow, item, again)
  if not refused and not (again and evidence.accepted_before(workflow, item)) then
    accept(tx, workflow, item, args[4])
  end
  flush.commit(tx, args[1])
  return refused or { "accepted", unpack(flush.header(workflow)) }
end
