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

local function accept(call_, flow, item, kept)
  local before, after = match(flow.static, "^(%d+,%d+,%d+,%d+,)%d*(,.*)$")
  local message = "kept " .. text_of(kept) .. " once it has finished, not " .. text_of(flow.h.kept)
  evidence.accept(call_, flow, item, "accepted", "", message)
  flow.static, flow.h.kept = before .. kept .. after, kept
  call.set(flow, ":s", flow.static)
  flow.h.review, flow.marked = "", true
end

return function(keys, args)
  local call_ = call.open(keys)
  local flow, again = call.flow(call_, 1, {}), args[2] == "1"
  local item = { action = "set_retention", scope = "workflow", step = "", call = args[3], note = args[5] }
  local refused = evidence.refuse_workflow(call_, flow, item, again)
  if not refused and not (again and evidence.accepted_before(flow, item)) then
    accept(call_, flow, item, args[4])
  end
  flush.commit(call_, args[1])
  return refused or { "accepted", unpack(flush.header(flow)) }
end
