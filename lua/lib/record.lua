-- Values that follow from a step's record (codec.lua).
local M = {}

-- How long one attempt of a step may take (ms), or nil. Most steps have no options at all, which is quick to see.
function M.timeout_ms(step)
  local seconds = find(step.static, ";", 1, true) and match(codec.step_options(step.static), ";(.+)$")
  return seconds and floor(seconds * 1000 + 0.5)
end

-- The last attempt that a step has.
function M.last_attempt(step)
  local before, granted = match(step.max, "^(%d+)%+(%d+)$")
  return before and before + granted or tonumber(step.max)
end

-- The children of a step.
function M.children(step)
  local edges = step.edges
  if not edges then
    edges = codec.step_children(step.static)
    step.edges = edges
  end
  return edges
end

return M
