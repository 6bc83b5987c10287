-- list_leases: steps that somebody has in hand, by the ends of their leases; a page of them.
--
-- Reply: {how many steps execute in the partition, {"workflow|step", ...}, the time (ms) to go on from or false at
--   the end}. One may be on two pages. Reads only.
-- Bound: 500 timers a page, of which those of leases are told.
local TIMERS_PER_PAGE = 500

return function(keys, from_ms)
  local timers, found = keys[keyslots.TIMERS], {}
  local page = command(
    "ZRANGEBYSCORE", timers, from_ms and integer.text(from_ms) or "-inf", "+inf", "WITHSCORES",
    "LIMIT", "0", integer.text(TIMERS_PER_PAGE)
  )
  for i = 1, #page, 2 do
    local lease = match(page[i], "^l|(.+)$")
    if lease then
      found[#found + 1] = lease
    end
  end
  local more = #page == 2 * TIMERS_PER_PAGE and tonumber(page[#page])
  if more and more == from_ms then
    more = more + 1 -- all of the page are due at once: what more of these there are is left out
  end
  return {
    command("HGET", keys[keyslots.STATS], states.STEP_GAUGE.e) or "0", found, more and integer.text(more),
  }
end
