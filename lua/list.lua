-- list: workflows of some groups, newest first.
--
-- Keys: the partition's (keyslots).
-- Arguments: the groups, a letter each ("o" for open, else the code of a terminal state); where to go
--   on after ("inserted|id"), or ""; how many of each group.
-- Reply: members of the index, "group|inserted|id", group by group. Reads only.
return function(keys, args)
  local found = {}
  for group in gmatch(args[1], "%a") do
    local from = "(" .. group .. (args[2] == "" and "}" or "|" .. args[2])
    local page = command(
      "ZREVRANGEBYLEX", keys[keyslots.INDEX], from, "[" .. group .. "|", "LIMIT", "0", args[3]
    )
    for i = 1, #page do
      found[#found + 1] = page[i]
    end
  end
  return found
end
