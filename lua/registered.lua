-- registered: which topics lack a wait that they were told of, or the timer of an outstanding hand-off.
--
-- Keys: the partition's (keyslots), then each topic's hash and sorted set (topic.lua).
-- Arguments: for each of these topics, a member that its sorted set should have.
-- Reply: the places, from 1, of those that lack something. Reads only.
local function lacks(keys, hash, set, member)
  if not command("ZSCORE", set, member) then
    return true
  end
  local timer = topic.handed_timer(hash)
  return timer and not command("ZSCORE", keys[keyslots.TIMERS], timer)
end

return function(keys, args)
  local lacking = {}
  for i = 1, #args do
    local base = keyslots.FIRST_FLOW + 2 * (i - 1)
    local read, found = pcall(lacks, keys, keys[base], keys[base + 1], args[i])
    if found or not read then
      lacking[#lacking + 1] = i
    end
  end
  return lacking
end
