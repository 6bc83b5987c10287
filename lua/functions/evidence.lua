-- evidence: a page of a workflow's evidence, or of the partition's log, which has entries of no workflow.
--
-- Bound: as many as are asked for (500), of 1 MB, or one that is larger.
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

return function(keys, kind, first, last)
  local w, _, accepted, noise = keyslots.workflow(keys, 1)
  local lists = { accepted = accepted, noise = noise, log = keys[keyslots.LOG] }
  local list = lists[kind]
  return {
    last < 0 and turned_round(backwards(list, first, last)) or forwards(list, first, last),
    command("LLEN", list),
    w and command("HGET", w, ":d") or "0",
  }
end
