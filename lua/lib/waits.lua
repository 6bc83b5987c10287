-- Steps that wait for a signal.
local M = {}

-- The step leaves its wait other than by its signal or its deadline.
function M.abandon(call_, flow, name)
end

-- A step that had expired, or whose wait had woken it, is placed anew by a recovery.
function M.revive(call_, flow, name)
end

-- Ends the waits of a workflow whose deadline has passed: before anything else is judged.
function M.expire(call_, flow)
end

return M
