-- A step's record: one field of its workflow's hash, named after the step.
--   state,remaining,since,order,attempt,max,reported,started,finished,cause,due,walked,claim
--   |class|position|payloads|options|children|parents|worker
-- (one line). The first part changes, the second never does.
--   remaining  parents (and the start) that have not resolved this step; meaningful while pending
--   order      the place in the ready queue, while the step stands in it; and while it executes, where it
--              goes back to when it is given back unstarted, also after a pause (pauses.lua)
--   max        how many attempts it has; "5+3" when a recovery after the fifth has granted 3 more
--   reported   the latest attempt that has a result row, 0 for none
--   due        when a retry runs again
--   walked     while the step has ended and some of its child edges have not been walked: how many
--              chunks of them have; "h" while a recovery holds a pending step (recovery.lua); "b" while
--              a result that its input refers to is missing (one more remaining); else empty
--   claim      while executing: token:expires:counted:worker (claims.lua); "=" while available or
--              retryable when the next claim counts no attempt, as a signal has woken the step, or its
--              retry was not counted; while a recovery holds the step: "<", its
--              state before, and "=" if it held that; "!" when an operator has cancelled this very
--              step; else empty
--   class      queue:urgency, empty for the default class
--   payloads   "i" when there is an input, "r" when it refers to results, "c" when there is a context
--   children, parents   names separated by commas, "+" before one over a continue edge; "#n" when
--              there are n of them in chunks of the payload hash
-- Times are milliseconds since the workflow was inserted.
local M = {}

M.DEFAULT_CLASS = "default:1000"

function M.read(text)
  local state, remaining, since, order, attempt, most, reported, started, finished, cause, due, walked, claim, static, class =
    match(
      text,
      "^([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^|]*)(|([^|]*).*)$"
    )
  if not states.NAME[state] then
    error(states.UNREADABLE)
  end
  return {
    state = state, remaining = remaining, since = since, order = order, attempt = attempt, max = most,
    reported = reported, started = started, finished = finished, cause = cause, due = due,
    walked = walked, claim = claim, static = static, class = M.class(class), edges = false,
  }
end

function M.write(r)
  return r.state .. "," .. r.remaining .. "," .. r.since .. "," .. r.order .. "," .. r.attempt .. ","
    .. r.max .. "," .. r.reported .. "," .. r.started .. "," .. r.finished .. "," .. r.cause .. ","
    .. r.due .. "," .. r.walked .. "," .. r.claim .. r.static
end

-- The class that this field of a record stands for.
function M.class(field)
  return field == "" and M.DEFAULT_CLASS or field
end

-- The other parts that never change, from a whole record or from its static part alone.
function M.payloads(text)
  return match(text, "^[^|]*|[^|]*|%d+|(%a*)|")
end

function M.options(text)
  return match(text, "^[^|]*|[^|]*|%d+|%a*|([^|]*)|")
end

-- How long one attempt of a step that was taken apart may take (ms), or nil. Most steps have no options at all, and
-- to see that costs little.
function M.timeout_ms(step)
  local seconds = find(step.static, ";", 1, true) and match(M.options(step.static), ";(.+)$")
  return seconds and floor(seconds * 1000 + 0.5)
end

function M.position(text)
  return tonumber(match(text, "^[^|]*|[^|]*|(%d+)|"))
end

-- The last attempt that a step has.
function M.last_attempt(step)
  local before, granted = match(step.max, "^(%d+)%+(%d+)$")
  return before and before + granted or tonumber(step.max)
end

-- The children of a step that was taken apart.
function M.children(step)
  local edges = step.edges
  if not edges then
    edges = match(step.static, "^|[^|]*|%d+|%a*|[^|]*|([^|]*)|")
    step.edges = edges
  end
  return edges
end

function M.parents(text)
  return match(text, "^[^|]*|[^|]*|%d+|%a*|[^|]*|[^|]*|([^|]*)|")
end

return M
