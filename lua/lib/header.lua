-- The two header fields of a workflow's hash.
--   ":s"  written once:    semantics,definition,steps,inserted_ms,retention_ms,name
--   ":c"  every transition: a count for each step state (in the order of states.CODES), then
--         last,started,finished,cancel,head,tail
-- Times are milliseconds; those in ":c" count from inserted_ms, so that they stay short. head and
-- tail bound the numbered walk entries (walk.lua). A name comes last, so it may hold anything.
local M = {}

function M.read(static, counts)
  local semantics, definition, steps, inserted, retention, name =
    string.match(static, "^(%d+),(%d+),(%d+),(%d+),(%d*),(.*)$")
  local h = {
    semantics = semantics,
    definition = definition,
    steps = tonumber(steps),
    inserted = tonumber(inserted),
    retention = retention,
    name = name,
  }
  h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8], h[9], h[10], h.last, h.started, h.finished, h.cancel, h.head, h.tail =
    string.match(
      counts,
      "^(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d*),(%d*),(%d*),(%d*),(%d+),(%d+)$"
    )
  h.head, h.tail = tonumber(h.head), tonumber(h.tail)
  for i = 1, 10 do
    h[i] = tonumber(h[i])
  end
  return h
end

-- A header for a workflow that is being inserted: every step pending.
function M.new(steps, inserted)
  return {
    steps, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    semantics = states.VERSION, steps = steps, inserted = inserted,
    last = "0", started = "", finished = "", cancel = "", head = 0, tail = 0,
  }
end

function M.counts(h)
  return table.concat(h, ",", 1, 10) .. "," .. h.last .. "," .. h.started .. "," .. h.finished
    .. "," .. h.cancel .. "," .. h.head .. "," .. h.tail
end

return M
