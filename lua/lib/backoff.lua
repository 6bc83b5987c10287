-- When a failed step runs again, by its options "base:factor:cap:jitter;timeout" (seconds; jitter "f"
-- for full, "n" for none), or by the default of states.BACKOFF.
local M = {}

function M.delay_ms(options, attempt, jitter)
  local base, factor, cap, kind = match(options, "^([^:;]+):([^:;]+):([^:;]+):(%a)")
  if not base then
    base, factor, cap, kind = unpack(states.BACKOFF)
  end
  -- A power beyond the range of numbers is infinite, which the cap bounds; but 0 times that is not a number.
  local ceiling = tonumber(base)
  if ceiling > 0 then
    ceiling = min(tonumber(cap), ceiling * factor ^ (attempt - 1))
  end
  if kind == "f" then
    ceiling = ceiling * jitter
  end
  return floor(ceiling * 1000 + 0.5)
end

return M
