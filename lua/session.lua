-- session: a workflow's recovery session, with its header.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the session's number, or "" for the latest.
-- Reply: {static, counts, context, number, session}, without the last two when there is none; {} where
--   there is no workflow. Reads only.
-- Bound: one session, with at most 1,000 changes.
return function(keys, args)
  local flow = call.flow(call.open(keys), 1, {})
  if not flow.h then
    return {}
  end
  local number = args[1] ~= "" and args[1] or call.number(flow.h.recoveries)
  local text = recovery.stored(flow, number)
  local context = flow.h.context == "c" and command("HGET", flow.p, ":")
  return { flow.static, flow.counts, context, text and number, text }
end
