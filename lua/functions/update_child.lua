-- update_child: tells a child workflow what the step that has asked for it makes of it: "w" the step waits for its end,
-- which starts it; "g" the step does not, or does not any more, which asks it to end; "n" the parent is gone; "r", "f"
-- its end has ended the step, which has completed or failed by it; "e" the step may come to wait, to be asked again.
--
-- Reply: {"open", "ended" or, where it is no child of that step, "gone", or "" for other semantics; header}.
-- Bound: the call's budget of edges, or one chunk (200) of steps.
-- Writes: the header, records, counts, evidence, ready queue, timers, waits, statistics. What an earlier wait of the
--   step says, once a later one is known, changes nothing.
-- Publishes: step_available, workflow_terminal.

-- Asks the child to end, if it has not.
local function end_child(tx, workflow, note, reason)
  if workflow.h.finished == "" and workflow.h.cancel == "" then
    local item = { action = "request_cancel", scope = "workflow", step = "", call = "", note = note }
    workflow.h.cancel = workflow.since .. ":" .. reason
    evidence.accept(tx, workflow, item, "accepted", "", "its parent does not wait for it: a cancel request stands")
    requests.carry_out(tx, workflow, false)
  end
  links.become(workflow, "g")
end

local function learn(tx, workflow, n, outcome, note, reason)
  workflow.link.n = n
  if outcome == "g" or (outcome == "n" and links.is_held(workflow)) then
    end_child(tx, workflow, note, reason)
  elseif outcome == "n" then
    links.become(workflow, "g")
  elseif outcome == "e" then
    waits.place_link(tx, workflow)
  elseif outcome ~= "w" then
    links.become(workflow, outcome)
  elseif links.is_held(workflow) then
    requests.start(tx, workflow)
  else
    links.become(workflow, "s")
  end
end

return function(tx, parent, step, n, outcome, note, reason)
  local workflow = transaction.workflow(tx, 1, {})
  local link = workflow.link
  if workflow.h and not states.IMPLEMENTED[workflow.h.semantics] then
    return { "", false }
  end
  if not link or link.workflow ~= parent or link.step ~= step then
    return { "gone", false }
  end
  expiry.expire(tx, workflow, {})
  -- A repair may say again what the child knows.
  if n > link.n or (n == link.n and not (outcome == "w" and link.state == "s")) then
    learn(tx, workflow, n, outcome, note, reason)
  end
  flush.commit(tx)
  return { workflow.h.finished ~= "" and "ended" or "open", flush.header(workflow) }
end
