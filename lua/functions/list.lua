-- list: entries of the listing of workflows, newest first, exact to the millisecond.
--
-- Bound: as many of each group as the caller asks for, and up to twice that to complete the last millisecond (1,000 in
--   all).
local function page(index, group, from, count)
  return command("ZREVRANGEBYLEX", index, "(" .. group .. from, "[" .. group .. "|", "LIMIT", "0", count)
end

-- The remaining workflows of the last one's millisecond.
local function rest(index, last, count)
  local inserted = match(last, "^.|%x+|")
  return command("ZREVRANGEBYLEX", index, "(" .. last, "[" .. inserted, "LIMIT", "0", count)
end

return function(keys, groups, behind, limit)
  local index, replies = keys[keyslots.INDEX], {}
  local from, count = behind and "|" .. behind or "}", integer.text(limit)
  for group in gmatch(groups, "%a") do
    local found, places = page(index, group, from, count), {}
    local others = #found == limit and rest(index, found[#found], count) or {}
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
