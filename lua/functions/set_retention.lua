-- set_retention: sets how long a workflow is kept once it has finished.
--
-- Writes: the header, the timer at the end of the retention, evidence.
local function text_of(kept)
  return kept == "" and "for ever" or "for " .. kept .. " ms"
end

local function accept(tx, workflow, item, kept)
  local message = "kept " .. text_of(kept) .. " once it has finished, not " .. text_of(workflow.h.kept)
  evidence.accept(tx, workflow, item, "accepted", "", message)
  workflow.static, workflow.h.kept = codec.set_header_retention(workflow.static, kept), kept
  transaction.set(workflow, ":s", workflow.static)
  workflow.h.review, workflow.marked = "", true
end

return function(tx, call_id, kept_ms, note)
  local workflow = transaction.workflow(tx, 1, {})
  local item = { action = "set_retention", scope = "workflow", step = "", call = call_id, note = note }
  local refused = evidence.refuse_workflow(tx, workflow, item, tx.again)
  if not refused and not (tx.again and evidence.accepted_before(workflow, item)) then
    accept(tx, workflow, item, kept_ms)
  end
  flush.commit(tx)
  return refused or flush.reply(workflow, { "accepted" })
end
