-- evidence: a page of a workflow's evidence, or of the partition's log of what concerns none.
--
-- Keys: the partition's and, but for the log, the workflow's (keyslots).
-- Arguments: "accepted", "noise" or "log"; the first and the last index, both from the start, or negative
--   and from the end.
-- Reply: {entries, how many there are, how many were dropped to make room}. Of what was asked for, one reply
--   holds the first that it has room for; the last when the indices are from the end. Reads only.
local AT_ONCE = 16

-- Adds entries up to the last, in order.
local function forwards(list, first, last)
  local found, room = {}, states.REPLY_BYTES
  while first <= last do
    local some = command("LRANGE", list, first, min(first + AT_ONCE - 1, last))
    for i = 1, #some do
      room = room - #some[i]
      if room < 0 and #found > 0 then
        return found
      end
      found[#found + 1] = some[i]
    end
    first = #some == AT_ONCE and first + AT_ONCE or last + 1
  end
  return found
end

-- Adds entries from the last back to the first.
local function backwards(list, first, last)
  local found, room = {}, states.REPLY_BYTES
  while first <= last do
    local some = command("LRANGE", list, max(last - AT_ONCE + 1, first), last)
    for i = #some, 1, -1 do
      room = room - #some[i]
      if room < 0 and #found > 0 then
        return found
      end
      found[#found + 1] = some[i]
    end
    last = #some == AT_ONCE and last - AT_ONCE or first - 1
  end
  return found
end

local function turned_round(list)
  local found = {}
  for i = #list, 1, -1 do
    found[#found + 1] = list[i]
  end
  return found
end

return function(keys, args)
  local w, _, accepted, noise = keyslots.workflow(keys, 1)
  local lists = { accepted = accepted, noise = noise, log = keys[keyslots.LOG] }
  local list, first, last = lists[args[1]], tonumber(args[2]), tonumber(args[3])
  return {
    last < 0 and turned_round(backwards(list, first, last)) or forwards(list, first, last),
    command("LLEN", list),
    w and command("HGET", w, ":d") or "0",
  }
end
