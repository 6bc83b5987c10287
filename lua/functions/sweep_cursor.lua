-- sweep_cursor: how far a sweep of a partition has come, and where its next page is.
--
-- There are two sweeps, "open" of the workflows that are open, and "ended" of the others. The sweeps' hash holds for
-- each of the two
--   open:at        the entry of the listing up to which all was checked; none between two rounds
--   open:began     when the latest round began, in milliseconds
--   open:seen      when it reached that entry
--   open:interval  how long it is to take, in milliseconds
--   open:ended     when the latest complete round ended
--   open:took      how long it took, in milliseconds
-- The page itself is read with a plain command, which costs less.
--
-- Bound: a page has as many entries as the caller asks for (256).
-- Writes: the sweeps' hash. Two daemons that sweep one partition check some workflows twice, which does no harm.
local FIRST = { open = "o|", ended = "" }
local OPEN, BEHIND_OPEN = 111, "(o}" -- "o"; where the entries of open workflows end

-- The range of entries behind this one; the entries of open workflows are between the others.
local function ranges(kind, at)
  if kind == "open" then
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

local function begin(hash, kind, now, interval_ms)
  command(
    "HSET", hash, kind .. ":at", FIRST[kind], kind .. ":began", integer.text(now), kind .. ":seen", integer.text(now),
    kind .. ":interval", integer.text(interval_ms)
  )
  return FIRST[kind], interval_ms
end

return function(keys, kind, anew, reached, limit, interval_ms)
  local now, index, hash = transaction.open(keys).ms, keys[keyslots.INDEX], keys[keyslots.FIRST_WORKFLOW]
  transaction.drop_other(hash, "hash")
  local stored = command("HMGET", hash, kind .. ":at", kind .. ":began")
  local at, began = stored[1], tonumber(stored[2] or nil) or 0
  -- The clock was set back since it began, so nobody knows how long it has taken.
  local left = began <= now and began + interval_ms - now or 0
  if anew or not (at or reached or left > 0) then
    at, left = begin(hash, kind, now, interval_ms)
  elseif reached then
    at = reached
    command("HSET", hash, kind .. ":at", at, kind .. ":seen", integer.text(now))
  elseif not at then
    return { left, "", {} }
  end
  local found = ranges(kind, at)
  return { max(left, 0) / max(pages(index, found, limit), 1), "1", found }
end
