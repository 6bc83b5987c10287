-- A workflow's header: the fields ":s" and ":c" of its hash (codec.lua), as one table.
-- A third field, ":o", orders workflows that were inserted in the same millisecond: seven digits, the microseconds
-- within it and a number within the call. Those of earlier releases have none.
-- A fourth, ":b", is there in workflows of semantics version 3 that need it (codec.lua).
-- A fifth, ":tags", holds the tags of a workflow that has some: KEY=VALUE,KEY=VALUE, both percent-quoted.
-- A hash without the first two holds no workflow: it is staged (insert.lua), or has the field M.UNUSABLE, which says why
-- its id cannot be used.
local M = {}

M.UNUSABLE = ":x"
M.ORDER = ":o"
M.BRANCHING = ":b"
M.TAGS = ":tags"
M.NO_BRANCHING = "0,,," -- as it would be written if the field were missing
M.ACKNOWLEDGED = ":ack" -- who has acknowledged the bad end
M.BURIED = "1" -- for an insert that may still be under way

-- The workflow's name: the last that the fixed part holds.
function M.name(static)
  return match(static, "[^,]*$")
end

-- The trace context of the workflow's insert, or nil.
function M.trace(static)
  local at = find(static, ";", 1, true)
  return at and match(static, "^[^;,]+", at + 1)
end

-- Both fields taken apart; the counts are in the table itself, by the letter of their state.
function M.read(static, counts)
  local h = codec.read_counts(counts or "")
  local semantics, steps, inserted, kept, context = codec.header_opening(static)
  if not semantics then
    error(states.UNREADABLE)
  end
  h.semantics, h.steps, h.inserted, h.kept = semantics, steps, inserted, kept
  if context ~= "" then
    h.context = context -- most have none, and the table is full
  end
  return h
end

-- The header of a workflow that is shown by this call: every step pending.
function M.new(semantics, steps, inserted, kept, context)
  return {
    p = steps, a = 0, e = 0, w = 0, r = 0, c = 0, f = 0, d = 0, x = 0, t = 0,
    semantics = semantics, steps = steps, inserted = inserted, kept = kept,
    context = context, last = "0", more = "", started = "", finished = "", cancel = "", head = 0, tail = 0,
    callbacks = 0, open = 0, dead = 0, recoveries = 0, review = "", recovering = "",
  }
end

-- The text of ":c" as a client gets it: with "#" and the field ":b" appended, "|" and the acknowledgement, and "&" and
-- the tags, where there are these.
function M.for_client(counts, acknowledged, branching, tags)
  return counts .. (branching and "#" .. branching or "") .. (acknowledged and "|" .. acknowledged or "")
    .. (tags and "&" .. tags or "")
end

-- Whether a stored acknowledgement is of the workflow's present end.
function M.is_acknowledged(h, acknowledged)
  return acknowledged and h.finished ~= "" and codec.acknowledgement_recoveries(acknowledged) == h.recoveries
end

-- Whether these two fields are those of an unfinished insert, or of an id that was made unusable.
function M.is_staged(w, p)
  local static, counts, unusable = unpack(command("HMGET", w, ":s", ":c", M.UNUSABLE))
  return not static and not counts and (unusable or M.BURIED) == M.BURIED and command("EXISTS", w, p) > 0
end

-- Whether the workflow here is being removed (prune.lua).
function M.is_being_removed(w)
  return find(command("HGET", w, M.UNUSABLE) or "", ",", 1, true) ~= nil
end

-- When the retention of a finished workflow is over, in milliseconds. Nil while it has not finished, when it is
-- kept for ever, and of a child while its parent may need it (links.lua). The partition's timers hold "x|workflow" at
-- that time.
function M.removal(h)
  if h.finished == "" or h.kept == "" or h.needed then
    return nil
  end
  return h.inserted + h.finished + h.kept
end

-- The time that the timer is to have, given its present one: undelivered callbacks put it off (prune.lua).
function M.removal_time(h, present)
  local due = M.removal(h)
  if due and h.open > 0 and present == due + states.CALLBACK_KEPT_MS then
    return present
  end
  return due
end

function M.removal_timer(workflow)
  return "x|" .. workflow.id
end

-- Where it stands in each group of the listing, and under each of its tags.
function M.place(workflow)
  return format("%011x", workflow.h.inserted) .. "|" .. workflow.id
end

-- The workflow's member in the listing, in a group: "o" while open, else the code of its state.
function M.index_member(workflow, group)
  return group .. "|" .. M.place(workflow)
end

return M
