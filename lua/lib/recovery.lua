-- Recovery sessions: an operator has a step run again, skips it, or cancels it, and its descendants are
-- placed anew from their parents' present states (contract, section 6).
--
-- A session begins when nothing else is left to be walked, and is an entry itself (propagate.lua). It has two phases.
-- Marking holds the steps that the session is to place: they are pending, with walked "h" and the state before in their
-- claim, "<f" ("<a=" when a signal has woken it), so that none of them runs and the workflow does not end before all are
-- marked. Placing judges every pending step by its parents. The edges of a step that ends meanwhile are walked behind the
-- session (propagate.descend), and count as unresolved until then: no edge is counted twice, and none is missed.
--
-- In a workflow that has grown, steps may stand before their parents. There, each round goes through all steps, and
-- another one follows where it has changed something: marks and ends are only added, so the rounds come to the result
-- of one in topological order. The steps that were appended by a step which is placed anew are superseded: they end
-- without a result, and hold nobody.
local M = {}

local ORIGIN = "*recover"
M.SINGLED_OUT = "!" -- the claim field of a step that an operator, not a cancel request, has cancelled
local PENDING = { state = "p", cause = "" }
local RETRY, SKIP, CANCEL = "retry", "skip", "cancel"
local DOWNSTREAM, BLOCKED = "downstream", "blocked"

-- The record of one session as text, or nil.
function M.stored(workflow, number)
  return command("HGET", workflow.p, "v:" .. number) or nil
end

local function changed(s, name, before, after)
  if before == after then
    return
  end
  s.count = s.count + 1
  if s.count <= states.LISTED then
    local change = codec.write_change({ step = name, before = before, after = after })
    s.changes = s.changes == "" and change or s.changes .. "," .. change
  end
end

local function grant(step)
  local original = match(step.max, "(%d+)$")
  if step.attempt ~= "0" then
    step.max = step.attempt .. "+" .. original
  end
end

-- Takes a step out of its present state until it is placed. One that a signal has woken stays woken.
local function hold(tx, workflow, name, step)
  local before, woken = step.state, step.claim == claims.UNCOUNTED
  transitions.withdraw(tx, workflow, name, step)
  if before == "t" then
    waits.revive(tx, workflow, name)
  end
  transitions.become(tx, workflow, name, step, PENDING)
  step.finished, step.walked = "", "h"
  step.claim = "<" .. before .. (woken and claims.UNCOUNTED or "")
end

-- The claim of a step that was superseded by the session of this number.
local function mark_of(number)
  return ";" .. number
end

local function supersede(tx, workflow, s, name, step)
  local before = match(step.claim, "^<(.)") or step.state
  transitions.withdraw(tx, workflow, name, step)
  if before == "t" and step.state == "t" then
    waits.revive(tx, workflow, name)
  end
  -- To its clients one that was cancelled stays in its state.
  local held = before == "x" and states.SUPERSEDED.state or nil
  transitions.become(tx, workflow, name, step, states.SUPERSEDED, held)
  step.walked, step.claim, s.again = "", mark_of(s.number), "1"
  changed(s, name, before, states.CASCADED.state)
end

-- Whether a step was appended by one that this session has placed anew, or superseded.
local function is_outdated(workflow, s, step)
  local name = match(step.by, "^(.+):")
  local by = name and transaction.step(workflow, name)
  return by and (by.walked == "h" or by.claim == mark_of(s.number))
end

local function ended_otherwise(step)
  return states.TERMINAL[step.state] and step.state ~= "c"
end

-- Marking: notes one parent of a step. "a": a marked parent or the recovered step holds it by a cancel edge; "t": an
-- ended step that it depended on is revived; "c": another parent cancels it.
local function mark_parent(workflow, s, name, sign, note)
  local parent = transaction.step(workflow, name)
  local held = parent and parent.walked == "h"
  local anchor = held or name == s.step or (parent and parent.claim == mark_of(s.number))
  if anchor and (sign == "" or s.scope == DOWNSTREAM) then
    note.a = true
  end
  if held then
    note.t = true
  elseif parent and sign == "" and name ~= s.step and ended_otherwise(parent) then
    note.c = true
  end
end

-- A step that a cancel request has ended counts as cancelled by its parents, as this recovery or an earlier one has
-- closed the request. So a join comes back with the last of its parents, in whatever order they are recovered.
local function is_member(s, step, note)
  if s.scope == DOWNSTREAM then
    return note.a
  end
  local by_others = step.cause == states.CASCADED.cause
    or (step.cause == states.CANCELLED_BY_REQUEST.cause and step.claim ~= M.SINGLED_OUT)
  return s.scope == BLOCKED and by_others and note.a and not note.c
end

local function mark(tx, workflow, s, name, step, note)
  if step.by ~= "" and is_outdated(workflow, s, step) then
    supersede(tx, workflow, s, name, step)
  elseif step.walked == "h" then
    return
  elseif is_member(s, step, note) then
    if step.state ~= "p" then
      grant(step)
    end
    hold(tx, workflow, name, step)
    s.again = "1"
  elseif note.t and (step.state == "a" or step.state == "r") then
    hold(tx, workflow, name, step)
    s.again = "1"
  end
end

-- Placing: counts the unresolved parents, and notes whether one cancels.
local function place_parent(workflow, _, name, sign, note)
  local parent = transaction.step(workflow, name)
  if not states.TERMINAL[parent.state] or find(parent.walked, "%d") then
    note.u = note.u + 1
  elseif parent.state ~= "c" and sign == "" then
    note.c = true
  elseif workflow.b then
    note.seen = branching.add(note.seen, branching.effect(parent, sign))
  end
end

-- Places a step whose parents have all resolved it: it runs, unless they skip it, or a cancel request is open.
local function release(tx, workflow, name, step, seen, before)
  local outcome = branching.skip(step, seen)
  if workflow.h.cancel ~= "" and not branching.outlasts(workflow, step) then
    outcome = states.CANCELLED_BY_REQUEST
  end
  if outcome then
    transitions.become(tx, workflow, name, step, outcome, before)
  else
    transitions.enqueue(tx, workflow, name, step)
    transaction.count_move(tx, workflow, states.COUNTER_RECOVERED, 1)
  end
end

local function has_grown(workflow)
  return workflow.b and workflow.b.grown > 0
end

-- Lets go of a step that was placed.
local function tell(workflow, s, name, step)
  local before = match(step.claim, "^<(.)") or "p"
  step.walked = ""
  step.claim = match(step.claim, claims.UNCOUNTED .. "$") or ""
  workflow.dirty[name] = true
  changed(s, name, before, step.state)
end

local function place(tx, workflow, s, name, step, note)
  local before = match(step.claim, "^<(.)") or "p"
  local held = step.walked == "h" or step.walked == "b"
  if note.c then
    local outcome = workflow.h.cancel ~= "" and states.CANCELLED_BY_REQUEST or states.CASCADED
    transitions.become(tx, workflow, name, step, outcome, before)
  elseif note.u == 0 and step.walked == "b" and name ~= s.step then
    return -- neither the step itself was recovered nor the result that it lacks
  elseif note.u == 0 then
    release(tx, workflow, name, step, note.seen, before)
  elseif not held and tonumber(step.remaining) == note.u and step.seen == note.seen then
    return
  else
    step.remaining, step.seen = integer.text(note.u), note.seen
    workflow.dirty[name] = true
  end
  if step.state == "p" and step.walked == "h" and has_grown(workflow) then
    return -- a later round may find that a parent has ended
  elseif states.TERMINAL[step.state] then
    s.again = "1"
  end
  tell(workflow, s, name, step)
end

local PHASES = {
  m = {
    concerns = function(s, name, step)
      local is_free = step.walked ~= "h" or step.by ~= ""
      return name ~= s.step and is_free and not branching.is_superseded(step)
        and (s.scope == DOWNSTREAM or find("xar", step.state))
    end,
    parent = mark_parent, decide = mark,
  },
  p = {
    concerns = function(_, _, step) return step.state == "p" end,
    parent = place_parent, decide = place,
  },
  t = {
    concerns = function(_, _, step) return step.state == "p" and step.walked == "h" end,
    decide = function(_, workflow, s, name, step) tell(workflow, s, name, step) end,
  },
}

local function read_note(text)
  return {
    a = find(text, "a", 1, true) and true, t = find(text, "t", 1, true) and true,
    c = find(text, "c", 1, true) and true, u = tonumber(match(text, "%d+") or "0"),
    seen = match(text, "s(%w*)$") or "",
  }
end

local function write_note(note)
  return (note.a and "a" or "") .. (note.t and "t" or "") .. (note.c and "c" or "") .. integer.text(note.u)
    .. (note.seen ~= "" and "s" .. note.seen or "")
end

-- Looks at the parents of a step as far as the budget goes. Returns the chunk to go on with, or nil when all are
-- done.
local function ask_parents(tx, workflow, s, phase, step, name, chunk, note)
  local text = codec.step_parents(step.static)
  local total = byte(text) == 35 and tonumber(sub(text, 2))
  repeat
    local part = total and command("HGET", workflow.p, "u:" .. name .. ":" .. integer.text(chunk)) or text
    local names, signs = {}, {}
    for sign, parent in gmatch(part, "([+!]?)([^,+!]+)") do
      names[#names + 1] = parent
      signs[#names] = sign
    end
    transaction.fetch(workflow, names)
    for i = 1, #names do
      phase.parent(workflow, s, names[i], signs[i], note)
    end
    tx.budget = tx.budget - #names
    chunk = chunk + 1
    if not total or chunk * states.CHUNK >= total then
      return nil
    end
  until tx.budget <= 0
  return chunk
end

-- The steps of a chunk, with their records loaded.
local function chunk_at(workflow, cache, position)
  local number = floor(position / states.CHUNK)
  if cache.number ~= number then
    local names = {}
    for name in gmatch(command("HGET", workflow.w, "#" .. integer.text(number)) or error(states.UNREADABLE), "[^,]+") do
      names[#names + 1] = name
    end
    transaction.fetch(workflow, names)
    cache.number, cache.names = number, names
  end
  return cache.names[position % states.CHUNK + 1] or error(states.UNREADABLE)
end

local function finish(tx, workflow, s, number)
  s.done = "1"
  workflow.h.recovering = ""
  propagate.drop_first(workflow)
  outbox.write(
    tx, workflow, "workflow.recovery_completed",
    '"session_id":"' .. workflow.id .. "/" .. number .. '","step":"' .. s.step .. '","action":"' .. s.action
      .. '","change_count":' .. integer.text(s.count)
  )
end

local function write_entry(workflow, s, at, entry)
  at.count, at.length = s.count, #s.changes
  entry.left = codec.write_place(at)
  propagate.put(workflow, workflow.h.head, entry)
end

-- Goes on with the step at a position. Returns false when its parents are more than the budget allows.
local function take_step(tx, workflow, s, at, cache)
  local phase, name = PHASES[at.phase], chunk_at(workflow, cache, at.position)
  local step = transaction.step(workflow, name) or error(states.UNREADABLE)
  tx.budget = tx.budget - 1
  if phase.concerns(s, name, step) then
    local note = read_note(at.note)
    local more = phase.parent and ask_parents(tx, workflow, s, phase, step, name, at.chunk, note)
    if more then
      at.chunk, at.note = more, write_note(note)
      return false
    end
    phase.decide(tx, workflow, s, name, step, note)
  end
  at.position, at.chunk, at.note = at.position + 1, 0, ""
  return true
end

-- Whether a cancel request has come since a session began; a step that always runs is recovered under one.
local function is_superseded(workflow, s)
  local requested = match(workflow.h.cancel, "^%d+")
  return requested and (workflow.h.inserted + requested) * 1000 > tonumber(sub(s.stamp, 1, -5))
end

-- Where a round begins: in topological order at the recovered step, as all steps that it concerns follow.
local function first_position(workflow, name)
  return has_grown(workflow) and 0 or codec.step_position(transaction.step(workflow, name).static)
end

-- Takes a session further, within the call's budget. A cancel request that has come meanwhile ends the marking: steps
-- that are not marked yet are left alone.
local function run(tx, workflow, s, at, entry)
  local cache, grown = {}, has_grown(workflow)
  s.number, s.again = at.number, at.again
  while tx.budget > 0 and s.done == "" do
    local interrupted = at.phase == "m" and is_superseded(workflow, s)
    if at.position < workflow.h.steps and not interrupted then
      if not take_step(tx, workflow, s, at, cache) then
        break
      end
    elseif grown and s.again ~= "" and not interrupted then
      at.position, s.again = 0, ""
    elseif at.phase == "t" or (at.phase == "p" and not grown) then
      finish(tx, workflow, s, at.number)
    else
      at.phase, s.again = at.phase == "m" and "p" or "t", ""
      at.position, at.chunk, at.note = first_position(workflow, s.step), 0, ""
    end
  end
  at.again = s.again
  results.set(workflow, "v:" .. at.number, codec.write_session(s))
  if s.done == "" then
    write_entry(workflow, s, at, entry)
  end
  workflow.moved = true
end

-- Takes the session of the workflow's first entry further.
propagate.resume[ORIGIN] = function(tx, workflow, entry)
  local at = codec.read_place(entry.left)
  local s = codec.read_session(M.stored(workflow, at.number))
  s.done, s.count, s.changes = "", at.count, sub(s.changes, 1, at.length)
  run(tx, workflow, s, at, entry)
end

-- Applies the command to its own step.
local function change_step(tx, workflow, s, step)
  local before = step.state
  if s.action == RETRY then
    grant(step)
    workflow.dirty[s.step] = true
    if before ~= "p" and before ~= "a" then
      hold(tx, workflow, s.step, step)
    end
    return
  end
  transitions.withdraw(tx, workflow, s.step, step)
  if before == "t" then
    waits.revive(tx, workflow, s.step)
  end
  step.walked, step.claim = "", s.action == CANCEL and M.SINGLED_OUT or ""
  local outcome = s.action == SKIP and states.SKIPPED_BY_OPERATOR or states.CANCELLED_BY_REQUEST
  transitions.become(tx, workflow, s.step, step, outcome)
  changed(s, s.step, before, step.state)
end

-- Begins a session, where nothing else is left to be walked. Returns its number and record.
function M.begin(tx, workflow, item, step)
  local h = workflow.h
  local s = {
    stamp = transaction.stamp(tx), call = item.call, command = item.command, step = item.step,
    action = item.recovery, scope = item.reach, done = "", count = 0, changes = "", note = item.note,
    reopen = item.reopen and h.cancel ~= "" and "1" or "",
  }
  if s.reopen ~= "" then
    h.cancel = ""
  end
  h.recoveries, h.review, h.recovering, h.tail = h.recoveries + 1, "", "1", h.tail + 1
  local number = integer.text(h.recoveries)
  change_step(tx, workflow, s, step)
  run(tx, workflow, s, {
    number = number, phase = s.action == CANCEL and "p" or "m", position = first_position(workflow, item.step),
    chunk = 0, note = "", again = "",
  }, { origin = ORIGIN })
  return number, s
end

return M
