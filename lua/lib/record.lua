-- What a step's record (codec.lua) says beside its fields.
local M = {}

-- How long one attempt of a step that was taken apart may take (ms), or nil. Most steps have no options at all, and
-- to see that costs little.
function M.timeout_ms(step)
  local seconds = find(step.static, ";", 1, true) and match(codec.step_options(step.static), ";(.+)$")
  return seconds and floor(seconds * 1000 + 0.5)
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
    edges = codec.step_children(step.static)
    step.edges = edges
  end
  return edges
end

return M
