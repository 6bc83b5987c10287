-- round: where the sweep of a partition stands, and where its next page is.
--
-- There are two sweeps, "open" of the workflows that are open, and "ended" of the others.
-- Keys: the partition's (keyslots), then the sweeps' hash. For each of the two it holds
--   open:at        the entry of the listing up to which all was looked at; none between two rounds
--   open:began     when the latest round began, in milliseconds
--   open:seen      when it came to the entry where it stands
--   open:interval  how long it is to take, in milliseconds
--   open:ended     when the latest round ended that came to its end
--   open:took      how long that one took, in milliseconds
-- Arguments: "open" or "ended", what to do, an entry or "", how many entries a page has at most, and how long a
--   round is to take in milliseconds. What to do:
--   "go on"   from the entry, or where the round stands; the next round begins when it is due
--   "begin"   a round at once
--   "end"     the round is over
-- Reply: {milliseconds until the next page is due, "1" while a round is under way, bounds, ...}: the page is the
--   first of what stands in the listing between two bounds each. It is read by a plain command, which costs less.
-- Bound: a page has as many entries as the caller asks for (256), and is read by itself.
-- Writes: the sweeps' hash. Two who sweep the same partition look at some workflows twice, and do no harm.
local FIRST = { open = "o|", ended = "" }
local OPEN, BEHIND_OPEN = 111, "(o}" -- "o"; where the entries of open workflows end

-- Where the entries behind this one stand; those of open workflows are in the midst of the others.
local function ranges(sweep_, at)
  if sweep_ == "open" then
    return { { "(" .. at, BEHIND_OPEN } }
  elseif at == "" or byte(at) < OPEN then
    return { { "(" .. at, "(o|" }, { BEHIND_OPEN, "+" } }
  end
  return { { "(" .. at, "+" } }
end

local function pages(index, found, limit)
  local left = 0
  for _, range in ipairs(found) do
    left = left + command("ZLEXCOUNT", index, range[1], range[2])
  end
  return math.ceil(left / limit)
end

return function(keys, args)
  local now, index, hash = transaction.open(keys).ms, keys[keyslots.INDEX], keys[keyslots.FIRST_WORKFLOW]
  transaction.drop_other(hash, "hash")
  local sweep_, verb, reached, limit, interval = args[1], args[2], args[3], tonumber(args[4]), args[5]
  local stored = command("HMGET", hash, sweep_ .. ":at", sweep_ .. ":began")
  local at, began = stored[1], tonumber(stored[2] or nil) or 0
  -- By a clock that was set back since, nobody knows how long it takes already.
  local left = began <= now and began + interval - now or 0
  if verb == "end" then
    command("HSET", hash, sweep_ .. ":ended", transaction.number(now), sweep_ .. ":took", transaction.number(max(now - began, 0)))
    command("HDEL", hash, sweep_ .. ":at")
    return { transaction.number(max(left, 0)), "" }
  elseif verb == "begin" or not (at or reached ~= "" or left > 0) then
    at, left = FIRST[sweep_], tonumber(interval)
    command(
      "HSET", hash, sweep_ .. ":at", at, sweep_ .. ":began", transaction.number(now), sweep_ .. ":seen", transaction.number(now),
      sweep_ .. ":interval", interval
    )
  elseif reached ~= "" then
    at = reached
    command("HSET", hash, sweep_ .. ":at", at, sweep_ .. ":seen", transaction.number(now))
  elseif not at then
    return { transaction.number(left), "" }
  end
  local found, bounds = ranges(sweep_, at), {}
  for _, range in ipairs(found) do
    bounds[#bounds + 1], bounds[#bounds + 2] = range[1], range[2]
  end
  return { transaction.number(max(left, 0) / max(pages(index, found, limit), 1)), "1", unpack(bounds) }
end
