-- list: places of workflows in the index, newest first, to the millisecond.
--
-- Keys: the partition's (keyslots).
-- Arguments: the groups, a letter each ("o" for open, else the code of a terminal state); where to go on behind
--   ("inserted|id"), or ""; how many of each group.
-- Reply: for each group its list of places, "inserted|id". A list of that many goes on to the end of its last
--   millisecond, with at most as many again. Reads only.
-- Bound: as many as the caller asks for of each group, twice that with the rest of a millisecond (1,000 in all).
local function page(index, group, from, count)
  return command("ZREVRANGEBYLEX", index, "(" .. group .. from, "[" .. group .. "|", "LIMIT", "0", count)
end

-- The others of the last one's millisecond.
local function rest(index, last, count)
  local inserted = match(last, "^.|%x+|")
  return command("ZREVRANGEBYLEX", index, "(" .. last, "[" .. inserted, "LIMIT", "0", count)
end

return function(keys, args)
  local index, replies = keys[keyslots.INDEX], {}
  local from, count = args[2] == "" and "}" or "|" .. args[2], args[3]
  for group in gmatch(args[1], "%a") do
    local found, places = page(index, group, from, count), {}
    local others = #found == tonumber(count) and rest(index, found[#found], count) or {}
    for i = 1, #found do
      places[i] = sub(found[i], 3)
    end
    for i = 1, #others do
      places[#found + i] = sub(others[i], 3)
    end
    replies[#replies + 1] = places
  end
  return replies
end
