-- append: brings steps into a workflow that has not ended (growth.lua).
--
-- Reply: {"accepted"|"duplicate", how many steps, header}, {"busy"|"changed"}, or a refusal.
-- Bound: the call's budget of edges, and a piece (200 elements) of the fragment begun before its end.
-- Writes and publishes as complete does. Sent twice, it answers what is on record.
local RECENT = 8

-- The append that this command is on record for, and how it was found; by its call when it was sent before.
local function on_record(workflow, item, again)
  local grown = workflow.b and workflow.b.grown or 0
  local number = item.command ~= "" and command("HGET", workflow.p, "!^:" .. item.command)
  if number and tonumber(number) <= grown then
    local known = codec.read_append(command("HGET", workflow.p, "j:" .. number) or error(states.UNREADABLE))
    return known, known.call == item.call and "accepted" or "duplicate"
  end
  for at = grown, again and max(grown - RECENT, 1) or grown, -1 do
    local text = command("HGET", workflow.p, "j:" .. integer.text(at))
    local known = text and codec.read_append(text)
    if known and known.call == item.call then
      return known, "accepted"
    end
  end
  return nil
end

local function judge(tx, workflow, item, g)
  local refused = evidence.refuse_workflow(tx, workflow, item, tx.again)
  if refused then
    return refused
  end
  local known, kind = on_record(workflow, item, tx.again)
  if known then
    if kind == "duplicate" then
      evidence.duplicate(tx, workflow, item)
    end
    return { kind, known.count }
  end
  local state = states.workflow_state(workflow.h)
  if states.WORKFLOW_CODE[state] then
    return evidence.reject(tx, workflow, item, "already_terminal", "the workflow is " .. state)
  end
  if workflow.h.cancel ~= "" then
    return evidence.reject(tx, workflow, item, "cancel_requested", "a cancel request stands")
  end
  local obstacle = growth.obstacle(workflow, g, 0)
  return obstacle and { obstacle }
end

local function accept(tx, workflow, item, g)
  growth.begin(tx, workflow, item, g)
  local number, count = integer.text(workflow.b.grown), integer.text(g.count)
  local known = { stamp = transaction.stamp(tx), call = item.call, command = item.command, count = count }
  results.set(workflow, "j:" .. number, codec.write_append(known))
  if item.command ~= "" then
    results.set(workflow, "!^:" .. item.command, number)
  end
  evidence.accept(tx, workflow, item, "accepted", "", count .. " steps were appended")
  return { "accepted", count }
end

return function(tx, call_id, command_id, fragment, note)
  local item = { action = "append", scope = "workflow", step = "", call = call_id, command = command_id, note = note }
  local workflow, g = transaction.workflow(tx, 1, {}), codec.read_growth(fragment)
  expiry.expire(tx, workflow, {})
  local answer = judge(tx, workflow, item, g) or accept(tx, workflow, item, g)
  flush.commit(tx)
  if answer[2] and answer[1] ~= "rejected" then
    answer[3] = flush.header(workflow)
  end
  return answer
end
