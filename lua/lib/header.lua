-- The two header fields of a workflow's hash.
--   ":s"  written once:      semantics,definition,steps,inserted,retention,context,name
--         retention is how long the workflow is kept once it has finished, empty for ever; context is "c"
--         when the payload hash holds one
--   ":c"  every transition:  counts;last,started,rest
--         counts are "p3a1": a letter and a number for each step state that some step is in, in the order
--         of states.CODES; rest is
--         empty, or finished,cancel,head,tail,callbacks,open,dead,recoveries,review,recovering
-- Times are milliseconds; those in ":c" count from inserted, so that they stay short.
--   cancel      the standing cancel request, "time:reason", or empty
--   head, tail  bound the numbered entries of what is still to be walked (propagate.lua)
--   callbacks   how many callbacks were written (outbox.lua); open: how many of them are neither delivered
--               nor dead, and dead: how many are dead
--   recoveries  how many recovery sessions there are (recovery.lua)
--   review      "1" while an operator's latest command was refused; tells nothing once the workflow has ended
--   recovering  "1" while a recovery session is unfinished
-- A third field, ":o", orders workflows that were inserted in the same millisecond: seven digits, the microseconds
-- within it and a number within the call. Those of earlier releases have none.
-- A name comes last, so it may hold anything. A hash without them holds no workflow: it is staged
-- (insert.lua), or has the field M.UNUSABLE, which says why no workflow can come into it.
local M = {}

M.UNUSABLE = ":x"
M.ORDER = ":o"
-- Who has acknowledged that the workflow ended badly: recoveries,since|actor|reason (both quoted). It holds
-- while no recovery has come since; it goes with the call in which a further callback dies.
M.ACKNOWLEDGED = ":ack"
M.BURIED = "1" -- for an insert that may still be under way

local COUNTS =
  "^p?(%d*)a?(%d*)e?(%d*)w?(%d*)r?(%d*)c?(%d*)f?(%d*)d?(%d*)x?(%d*)t?(%d*);(%d+),(%d*),(.*)$"

-- Texts as numbers; the small ones are kept, as reading one costs as much as a dozen look-ups.
local NUMBERS = { [""] = 0 }

-- A number of steps, "" for none.
local function count(digits)
  local number = NUMBERS[digits]
  if not number then
    number = digits + 0
    if number < 1000 then
      NUMBERS[digits] = number
    end
  end
  return number
end

-- Both fields taken apart; the counts are in the table itself, by the letter of their state.
function M.read(static, counts)
  local semantics, steps, inserted, kept, context = match(static, "^(%d+),%d+,(%d+),(%d+),(%d*),(c?),")
  local p, a, e, w, r, c, f, d, x, t, last, started, rest = match(counts or "", COUNTS)
  if not semantics or not p then
    error(states.UNREADABLE)
  end
  local h = {
    p = count(p), a = count(a), e = count(e), w = count(w), r = count(r), c = count(c), f = count(f),
    d = count(d), x = count(x), t = count(t),
    semantics = semantics, steps = count(steps), inserted = inserted + 0, kept = kept,
    context = context, last = last, started = started, finished = "", cancel = "", head = 0, tail = 0,
    callbacks = 0, open = 0, dead = 0, recoveries = 0, review = "", recovering = "",
  }
  if rest ~= "" then
    local head, tail, callbacks, open, dead, recoveries
    h.finished, h.cancel, head, tail, callbacks, open, dead, recoveries, h.review, h.recovering =
      match(rest, "^(%d*),([^,]*),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(1?),(1?)$")
    if not head then
      error(states.UNREADABLE)
    end
    h.head, h.tail, h.callbacks = tonumber(head), tonumber(tail), tonumber(callbacks)
    h.open, h.dead, h.recoveries = tonumber(open), tonumber(dead), tonumber(recoveries)
  end
  return h
end

-- The header of a workflow that is shown by this call: every step pending.
function M.new(steps, inserted, kept, context)
  return {
    p = steps, a = 0, e = 0, w = 0, r = 0, c = 0, f = 0, d = 0, x = 0, t = 0,
    semantics = states.VERSION, steps = steps, inserted = inserted, kept = kept,
    context = context, last = "0", started = "", finished = "", cancel = "", head = 0, tail = 0,
    callbacks = 0, open = 0, dead = 0, recoveries = 0, review = "", recovering = "",
  }
end

-- The text of ":c" as a client is told it: behind it "|" and the acknowledgement, where there is one.
function M.told(counts, acknowledged)
  return acknowledged and counts .. "|" .. acknowledged or counts
end

-- Whether an acknowledgement, as stored, is of the workflow's present end.
function M.is_acknowledged(h, acknowledged)
  return acknowledged and h.finished ~= "" and match(acknowledged, "^%d+") == integer.text(h.recoveries)
end

-- Whether these two are what an insert has left that is not finished, or was made unusable.
function M.is_staged(w, p)
  local static, counts, unusable = unpack(command("HMGET", w, ":s", ":c", M.UNUSABLE))
  return not static and not counts and (unusable or M.BURIED) == M.BURIED and command("EXISTS", w, p) > 0
end

-- Whether a workflow stood here that is being removed (prune.lua).
function M.is_being_removed(w)
  return find(command("HGET", w, M.UNUSABLE) or "", ",", 1, true) ~= nil
end

-- The text of ":c".
function M.write(h)
  local rest = ""
  if h.finished ~= "" or h.cancel ~= "" or h.tail > 0 or h.callbacks > 0 or h.recoveries > 0 or h.review ~= "" then
    local number = integer.text
    rest = h.finished .. "," .. h.cancel .. "," .. number(h.head) .. "," .. number(h.tail) .. ","
      .. number(h.callbacks) .. "," .. number(h.open) .. "," .. number(h.dead) .. ","
      .. number(h.recoveries) .. "," .. h.review .. "," .. h.recovering
  end
  return states.counts_text(h) .. ";" .. h.last .. "," .. h.started .. "," .. rest
end

-- When the retention of a finished workflow is over, in milliseconds. Nil while it has not finished, and
-- when it is kept for ever. The partition's timers hold "x|workflow" at that time.
function M.removal(h)
  if h.finished == "" or h.kept == "" then
    return nil
  end
  return h.inserted + h.finished + h.kept
end

-- The time at which that timer is to stand, given where it stands: callbacks that a dispatcher has still to
-- deliver put it off (prune.lua).
function M.removal_time(h, stands)
  local due = M.removal(h)
  if due and h.open > 0 and stands == due + states.CALLBACK_KEPT_MS then
    return stands
  end
  return due
end

function M.removal_timer(workflow)
  return "x|" .. workflow.id
end

-- The workflow's member in the listing, in a group: "o" while open, else the code of its state.
function M.index_member(workflow, group)
  return group .. "|" .. format("%011x", workflow.h.inserted) .. "|" .. workflow.id
end

return M
