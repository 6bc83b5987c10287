-- Rules that semantics version 3 adds to version 2 (contract, section 13): edges that wait for a failure, steps
-- that are skipped, steps that always run, and when a workflow starts and is to have ended.
--
-- A pending step's record sums up its resolved edges in the field "seen": "f" when a parent over an on_failure edge has
-- ended other than completed, "u" when such a parent has completed, then the number of parents that have skipped their
-- branch. For a step that was skipped, whose state is completed, the field is "s", or "sb" when its branch was skipped.
-- For an appended step that was superseded (recovery.lua) it is "z", with the state completed, too: to its children that
-- is as if it had skipped its branch.
--
-- An edge's effect on its child is false when it cancels the child, else those of the letters "f", "u" and "b" that
-- apply ("b": the parent has skipped its branch).
local M = {}

-- Whether a step runs however the others end.
function M.is_always(step)
  return find(codec.step_payloads(step.static), "a", 1, true) ~= nil
end

-- Whether a cancel request leaves this step of the workflow alone.
function M.outlasts(workflow, step)
  return workflow.b and M.is_always(step)
end

-- Whether a step was skipped; a reference to its result is null.
function M.is_skipped(step)
  return byte(step.seen) == 115
end

-- Whether an appended step was superseded.
function M.is_superseded(step)
  return step.seen == states.SUPERSEDED.seen
end

-- Whether a step that has completed has a result: it was neither skipped nor superseded.
function M.has_result(step)
  return step.seen == ""
end

-- The effect of an edge with this mark, when a parent has ended.
function M.effect(parent, mark)
  if M.is_superseded(parent) then
    return "b"
  end
  local completed = parent.state == "c"
  if not completed and mark == "" then
    return false
  end
  local branch = parent.seen == "sb" and "b" or ""
  if mark ~= "!" then
    return branch
  end
  return completed and "u" .. branch or "f"
end

-- Appends the children in a list of edges to names, and the effects of these edges to names.effects.
function M.gather(text, parent, names)
  local of_mark = { [""] = M.effect(parent, ""), ["+"] = M.effect(parent, "+"), ["!"] = M.effect(parent, "!") }
  local effects, count = names.effects or {}, #names
  names.effects = effects
  for mark, name in gmatch(text, "([+!]?)([^,+!]+)") do
    count = count + 1
    names[count], effects[count] = name, of_mark[mark]
  end
end

-- The field "seen" after one more edge of this effect is resolved.
function M.add(seen, effect)
  if effect == "" then
    return seen
  end
  local branches = tonumber(match(seen, "%d+") or 0) + (find(effect, "b", 1, true) and 1 or 0)
  local letters = seen .. effect
  return (find(letters, "f", 1, true) and "f" or "") .. (find(letters, "u", 1, true) and "u" or "")
    .. (branches > 0 and integer.text(branches) or "")
end

local function parents_of(step)
  local text = codec.step_parents(step.static)
  if byte(text) == 35 then
    return tonumber(sub(text, 2))
  end
  local count = 0
  for _ in gmatch(text, "[^,]+") do
    count = count + 1
  end
  return count
end

-- The outcome of a step whose edges are all resolved and which is skipped; nil when it is released.
function M.skip(step, seen)
  if seen == "" or M.is_always(step) then
    return nil
  end
  local letters, branches = match(seen, "^(%a*)(%d*)$")
  if branches ~= "" and tonumber(branches) == parents_of(step) then
    return states.BRANCH_SKIPPED
  end
  return letters == "u" and states.SKIPPED or nil
end

local function count(workflow, step, by)
  local b = workflow.b
  if M.is_skipped(step) then
    b.skipped = b.skipped + by
  elseif M.is_superseded(step) then
    b.superseded = b.superseded + by
  end
end

-- Updates a step's record, and its workflow's counts of skipped and superseded steps, after the step has moved.
function M.follow(workflow, step, outcome)
  count(workflow, step, -1)
  step.seen = outcome.seen or ""
  count(workflow, step, 1)
end

-- How many of a workflow's steps are in a state to its clients, to whom superseded steps are cancelled.
function M.steps_in(workflow, code)
  local superseded = workflow.b and workflow.b.superseded or 0
  return workflow.h[code] + (code == "c" and -superseded or code == "x" and superseded or 0)
end

-- The field "seen" of a pending step after some superseded steps have stopped being its parents.
function M.drop(seen, dropped)
  local letters, branches = match(seen, "^(%a*)(%d*)$")
  branches = max(tonumber(branches ~= "" and branches or 0) - dropped, 0)
  return letters .. (branches > 0 and integer.text(branches) or "")
end

-- A workflow's counts as clients get them, without its acknowledgement (header.lua).
function M.counts(workflow)
  return header.for_client(workflow.counts, nil, workflow.b and codec.write_branching(workflow.b))
end

-- When the workflow is to start, while it has not (ms), or nil.
function M.start_due(workflow)
  local b = workflow.b
  return b and b.starts ~= "" and workflow.h.inserted + b.starts or nil
end

-- When the workflow's deadline passes (ms), or nil: it has none, has ended, or is asked to end already.
function M.deadline_due(workflow)
  local b = workflow.b
  if not b or b.deadline == "" or workflow.h.cancel ~= "" or states.WORKFLOW_CODE[states.workflow_state(workflow.h)] then
    return nil
  end
  return workflow.h.inserted + b.deadline
end

-- When each of the two timers is due, by its kind; nil where there is to be none.
function M.dues(workflow)
  return { b = M.start_due(workflow), d = M.deadline_due(workflow) }
end

-- Sets one of the timers as the records imply.
function M.place_timer(tx, workflow, kind, due)
  tx.timers = tx.timers or {}
  tx.timers[kind .. "|" .. workflow.id] = due and integer.text(due) or false
end

-- Sets both timers as this call leaves the records.
function M.follow_dues(tx, workflow)
  local dues = M.dues(workflow)
  for _, kind in ipairs({ "b", "d" }) do
    if dues[kind] ~= workflow.dues[kind] then
      M.place_timer(tx, workflow, kind, dues[kind])
    end
  end
end

return M
