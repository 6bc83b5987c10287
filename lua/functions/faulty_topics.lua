-- faulty_topics: the topics that lack a registered wait or the timer of an outstanding hand-off, or hold an entry
-- that their records do not imply. Of a topic with many waits only the given member is looked at.
local FEW = 16

-- Whether every entry of a topic's set is right.
local function is_right(hash, set)
  local found = command("ZRANGE", set, "0", "-1", "WITHSCORES")
  for at = 1, #found, 2 do
    if found[at + 1] ~= "0" or not topic.implies({ hash = hash }, found[at]) then
      return false
    end
  end
  return true
end

local function lacks(keys, hash, set, member)
  if command("ZSCORE", set, member) ~= "0" or (command("ZCARD", set) <= FEW and not is_right(hash, set)) then
    return true
  end
  local timer = topic.handed_timer(hash)
  return timer and not command("ZSCORE", keys[keyslots.TIMERS], timer)
end

return function(keys, members)
  local lacking = {}
  for i = 1, #members do
    local base = keyslots.FIRST_WORKFLOW + 2 * (i - 1)
    local read, found = pcall(lacks, keys, keys[base], keys[base + 1], members[i])
    if found or not read then
      lacking[#lacking + 1] = i
    end
  end
  return lacking
end
