-- A step's record: one field of its workflow's hash, named after the step.
--   state,remaining,since,order,attempt,max,reported,started,finished,cause,due,walked
--   |position|class|options|children|parents|worker
-- (one line). The first part changes, the second never does.
--   remaining  parents (and the start) that have not resolved this step; meaningful while pending
--   order      the place in the ready queue, while the step stands in it
--   reported   the latest attempt that has a result row, 0 for none
--   due        when a retry or a wait ends
--   walked     how many of its child edges have been walked, while some have not; else empty
--   class      queue:urgency, empty for the default class
--   children, parents   names separated by commas, "+" before one over a continue edge; "#n" when
--              there are n of them in chunks of the payload hash
-- Times are milliseconds since the workflow was inserted.
local M = {}

local DEFAULT_CLASS = "default:1000"

function M.read(text)
  local r = {}
  r.state, r.remaining, r.since, r.order, r.attempt, r.max, r.reported, r.started, r.finished, r.cause, r.due, r.walked, r.static =
    string.match(
      text,
      "^(%a),(%d+),(%d*),(%x*),(%d+),(%d+),(%d+),(%d*),(%d*),(%a?),(%d*),(%d*)|(.*)$"
    )
  return r
end

function M.write(r)
  return r.state .. "," .. r.remaining .. "," .. r.since .. "," .. r.order .. "," .. r.attempt .. ","
    .. r.max .. "," .. r.reported .. "," .. r.started .. "," .. r.finished .. "," .. r.cause .. ","
    .. r.due .. "," .. r.walked .. "|" .. r.static
end

-- The class of a step, from its whole record or from its static part alone.
function M.class(static)
  local class = string.match(static, "^%d+|([^|]*)|")
  if class == "" then
    return DEFAULT_CLASS
  end
  return class
end

function M.options(static)
  return string.match(static, "^%d+|[^|]*|([^|]*)|")
end

function M.children(static)
  return string.match(static, "^%d+|[^|]*|[^|]*|([^|]*)|")
end

function M.parents(static)
  return string.match(static, "^%d+|[^|]*|[^|]*|[^|]*|([^|]*)|")
end

return M
