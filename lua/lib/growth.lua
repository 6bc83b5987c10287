-- Steps that are appended to a workflow (contract, section 14).
--
-- The client has worked out what is to be stored, and staged it in pieces: fields of the payload hash (stored.py,
-- GrowthRecord), which nobody else looks at. It is right only as long as nothing else was appended since, which the
-- count of appends tells. Then the command that appends begins a session: an entry among what is still to be walked
-- (propagate.lua), which applies the pieces one after the other. Until it has ended, no other session can begin, and what
-- ends meanwhile is walked behind it.
--
-- A piece is a row of elements: a letter, and then two texts, each behind its length and a colon:
--   s  name, record       a new step; it is there once its position is below the header's count of steps
--   t  name, record       a step that takes the place of a superseded one
--   w, p  field, text     another field of the workflow's hash, of its payload hash
--   x  name, relink       new edges of an existing step
--   e  parent, children   edges to new steps from an existing one, to be resolved when that has ended before
-- New steps come first, then existing ones; with one of the pieces all new steps are shown; edges are resolved last. So
-- nobody sees a part of a fragment, and none of it runs before all is in.
local M = {}

local ORIGIN = "*append"

function M.piece(token, number)
  return "+" .. token .. ":" .. integer.text(number)
end

-- Tells whether a fragment that was made for this attempt of its step can be brought in now: nil when it can, otherwise
-- "busy" or "changed".
function M.obstacle(workflow, g, attempt)
  if workflow.h.head < workflow.h.tail then
    return "busy"
  end
  local grown = workflow.b and workflow.b.grown or 0
  local staged = tonumber(command("HGET", workflow.p, "+" .. g.token) or 0)
  return (grown ~= g.grown or attempt ~= g.attempt or staged ~= g.pieces) and "changed" or nil
end

local APPLY = {}

function APPLY.s(_, workflow, name, text)
  workflow.raw[name], workflow.dirty[name] = text, true
end

-- Attempts go on, and the position stays.
function APPLY.t(tx, workflow, name, text)
  local old, step = transaction.step(workflow, name), codec.read_step(text)
  transaction.recount(tx, workflow, old.state, step.state, 1)
  transaction.remark(tx, workflow, old, step)
  step.since, step.attempt, step.reported, step.started = workflow.since, old.attempt, old.reported, old.started
  if step.attempt ~= "0" then
    step.max = step.attempt .. "+" .. step.max
  end
  workflow.steps[name], workflow.dirty[name] = step, true
end

function APPLY.w(_, workflow, field, text)
  transaction.set(workflow, field, text)
end

function APPLY.p(_, workflow, field, text)
  results.set(workflow, field, text)
end

local KEPT = "="

function APPLY.x(_, workflow, name, text)
  local step, change = transaction.step(workflow, name), codec.read_relink(text)
  if change.children ~= KEPT then
    step.static, step.edges = codec.set_step_children(step.static, change.children), nil
  end
  if change.parents ~= KEPT then
    step.static = codec.set_step_parents(step.static, change.parents)
  end
  if step.state == "p" then
    step.remaining, step.seen = integer.text(step.remaining + change.unresolved), branching.drop(step.seen, change.dropped)
  end
  workflow.dirty[name] = true
end

function APPLY.e(tx, workflow, parent, text)
  propagate.resolve(tx, workflow, parent, text)
end

-- A text behind its length, and where it ends.
local function read(text, at)
  local length, from = match(text, "^(%d+):()", at)
  if not length then
    error(states.UNREADABLE)
  end
  return sub(text, from, from + length - 1), from + length
end

local function apply(tx, workflow, text)
  local at = 1
  while at <= #text do
    local field, behind = read(text, at + 1)
    local value, next_at = read(text, behind)
    APPLY[sub(text, at, at)](tx, workflow, field, value)
    at = next_at
    tx.budget = tx.budget - 1
  end
end

-- Applies pieces within the call's budget. Returns whether all have been.
local function run(tx, workflow, g)
  while g.piece <= g.pieces and tx.budget > 0 do
    apply(tx, workflow, command("HGET", workflow.p, M.piece(g.token, g.piece)) or error(states.UNREADABLE))
    if g.piece == g.shown then
      transaction.add_steps(tx, workflow, g.steps)
    end
    g.piece = g.piece + 1
  end
  workflow.moved = true
  if g.piece <= g.pieces then
    propagate.put(workflow, workflow.h.head, { origin = ORIGIN, left = codec.write_growth(g) })
    return false
  end
  workflow.h.recovering = ""
  propagate.drop_first(workflow)
  return true
end

propagate.resume[ORIGIN] = function(tx, workflow, entry)
  run(tx, workflow, codec.read_growth(entry.left))
end

-- Brings a fragment in that nothing keeps out; what the call's budget does not allow, later ones do. Pieces that were
-- all applied by this call go with it, others are the client's to discard.
function M.begin(tx, workflow, item, g)
  versions.need_branching(tx, workflow, item)
  workflow.b.grown = workflow.b.grown + 1
  workflow.h.recovering, workflow.h.tail = "1", workflow.h.tail + 1
  workflow.hides = true
  if run(tx, workflow, g) then
    workflow.spent = { token = g.token, pieces = g.pieces }
  end
end

return M
