-- Places of workflows in the listing and in the tag index, whose members begin with what they are listed under, and go on
-- with the place (header.lua): the listing with a group, "o|inserted|id", the tag index with a tag.
--
-- A range is a part of an index under one such beginning: { index, from, to, oldest_first, skip }, "from" and "to" in the
-- order of the index, "skip" the length of the beginning.
local M = {}

local END = "~" -- behind all that a place holds

-- The part that is asked for: behind a place, and inserted at these times.
local function range(index, beginning, asked)
  local first, last = "[" .. beginning .. (asked.inserted_from or ""), "(" .. beginning .. (asked.inserted_before or END)
  local behind = asked.behind
  if behind and asked.oldest_first then
    if behind > (asked.inserted_from or "") then
      first = "(" .. beginning .. behind
    end
  elseif behind and behind < (asked.inserted_before or END) then
    last = "(" .. beginning .. behind
  end
  return { index = index, from = first, to = last, oldest_first = asked.oldest_first, skip = #beginning }
end

-- The ranges of all these groups together, or that of one tag.
function M.ranges(keys, groups, tags, asked)
  if tags[1] then
    return { range(keys[keyslots.TAGS], tags[1] .. "|", asked) }
  end
  local found = {}
  for group in gmatch(groups, "%a") do
    found[#found + 1] = range(keys[keyslots.INDEX], group .. "|", asked)
  end
  return found
end

function M.count(ranges)
  local count = 0
  for i = 1, #ranges do
    count = count + command("ZLEXCOUNT", ranges[i].index, ranges[i].from, ranges[i].to)
  end
  return count
end

-- Of the groups and each of the tags, all of which hold what is asked for, the ranges with the fewest places.
function M.fewest(keys, groups, tags, asked)
  local best = M.ranges(keys, groups, {}, asked)
  local least = #tags > 0 and M.count(best)
  for i = 1, #tags do
    local ranges = M.ranges(keys, groups, { tags[i] }, asked)
    local count = M.count(ranges)
    if count < least then
      best, least = ranges, count
    end
  end
  return best
end

local function read(range_, from, to, count)
  if range_.oldest_first then
    return command("ZRANGEBYLEX", range_.index, from, to, "LIMIT", "0", count)
  end
  return command("ZREVRANGEBYLEX", range_.index, to, from, "LIMIT", "0", count)
end

-- The others of the last one's millisecond.
local function rest(range_, last, count)
  local millisecond = match(last, "^(.*|)[^|]*$")
  if range_.oldest_first then
    return read(range_, "(" .. last, "(" .. millisecond .. END, count)
  end
  return read(range_, "[" .. millisecond, "(" .. last, count)
end

-- The next places of a range, as many as are asked for and then those of the last one's millisecond, up to as many.
function M.page(range_, limit)
  local count, found = integer.text(limit), {}
  local members = read(range_, range_.from, range_.to, count)
  for i = 1, #members do
    found[i] = sub(members[i], range_.skip + 1)
  end
  local others = #members == limit and rest(range_, members[limit], count) or {}
  for i = 1, #others do
    found[limit + i] = sub(others[i], range_.skip + 1)
  end
  return found
end

return M
