-- Callbacks: what the host is to be told, written in the call that causes it.
local M = {}

-- Plans a callback; fields is JSON of the event's own fields, with the braces left out.
function M.write(call_, flow, event, fields)
end

return M
