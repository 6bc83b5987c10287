-- When a failed step runs again, by its options "base:factor:cap:jitter;timeout" (seconds; jitter "f"
-- for full, "n" for none), or by the default of states.BACKOFF.
local M = {}

function M.delay_ms(options, attempt, jitter)
  local base, factor, cap, kind = match(options, "^([^:;]+):([^:;]+):([^:;]+):(%a)")
  if not base then
    base, factor, cap, kind = unpack(states.BACKOFF)
  end
  local ceiling = min(tonumber(cap), base * factor ^ (attempt - 1))
  if kind == "f" then
    ceiling = ceiling * jitter
  end
  return floor(ceiling * 1000 + 0.5)
end

return M
