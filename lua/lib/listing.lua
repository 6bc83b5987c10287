-- Places of workflows in the listing and in the tag index, whose members begin with what they are listed under, and go on
-- with the place (header.lua): the listing with a group, "o|inserted|id", the tag index with a tag.
--
-- A range is a part of an index under one such beginning: { index, beginning, from, to, oldest_first }, "from" and "to"
-- in the order of the index.
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
  return { index = index, beginning = beginning, from = first, to = last, oldest_first = asked.oldest_first }
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

local function read(range_, from, to, count)
  if range_.oldest_first then
    return command("ZRANGEBYLEX", range_.index, from, to, "LIMIT", "0", integer.text(count))
  end
  return command("ZREVRANGEBYLEX", range_.index, to, from, "LIMIT", "0", integer.text(count))
end

-- The others of the last one's millisecond.
local function rest(range_, last, count)
  local millisecond = match(last, "^(.*|)[^|]*$")
  if range_.oldest_first then
    return read(range_, "(" .. last, "(" .. millisecond .. END, count)
  end
  return read(range_, "[" .. millisecond, "(" .. last, count)
end

-- The first members of a range: one more than a page has, when there are so many.
local function first(range_, limit)
  return read(range_, range_.from, range_.to, limit + 1)
end

-- The next places of a range that begins with these members, as many as are asked for and then those of the last one's
-- millisecond, up to as many.
local function page(range_, members, limit)
  local found, skip = {}, #range_.beginning
  for i = 1, min(#members, limit) do
    found[i] = sub(members[i], skip + 1)
  end
  if #members > limit and match(members[limit], "^.*|") == match(members[limit + 1], "^.*|") then
    local others = rest(range_, members[limit], limit)
    for i = 1, #others do
      found[limit + i] = sub(others[i], skip + 1)
    end
  end
  return found
end

-- Which choice has the fewest places, and its first members where it is a tag. To count costs more than to read a few:
-- a tag that ends within a page is not compared.
local function fewest(choices, tags, limit)
  local heads = {}
  for i = 1, #tags do
    heads[i] = first(choices[i][1], limit)
    if #heads[i] <= limit then
      return i, heads[i]
    end
  end
  local best, least = 1, nil
  for i = 1, #choices > 1 and #choices or 0 do
    local count = M.count(choices[i])
    if not least or count < least then
      best, least = i, count
    end
  end
  return best, heads[best]
end

-- Which of these places all other choices have, too, as far as these are of one range: a digit each, or "" for all.
local function fit(places, choices, chosen)
  if #choices == 1 or #places == 0 then
    return ""
  end
  local digits, members = {}, {}
  for at = 1, #places do
    digits[at] = "1"
  end
  for i = 1, #choices do
    local range_ = choices[i][1]
    if choices[i] ~= chosen and #choices[i] == 1 then
      for at = 1, #places do
        members[at] = range_.beginning .. places[at]
      end
      local scores = command("ZMSCORE", range_.index, unpack(members))
      for at = 1, #places do
        digits[at] = scores[at] and digits[at] or "0"
      end
    end
  end
  return concat(digits)
end

-- A page of each range of the groups together, or of one tag: all of these hold what is asked for. Which of them is as
-- an earlier call has told, or else whichever has the fewest places; it is returned, too.
function M.pages(keys, groups, tags, asked, limit, told)
  local choices, pages = {}, {}
  for i = 1, #tags do
    choices[i] = M.ranges(keys, groups, { tags[i] }, asked)
  end
  if #tags == 0 or #groups < #states.GROUPS then
    choices[#choices + 1] = M.ranges(keys, groups, {}, asked)
  end
  local at, head = told, nil
  if not at then
    at, head = fewest(choices, tags, limit)
  end
  local chosen = choices[at]
  for i = 1, #chosen do
    local places = page(chosen[i], head or first(chosen[i], limit), limit)
    pages[i] = { places, fit(places, choices, chosen) }
  end
  return at, pages
end

return M
