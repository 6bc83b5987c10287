-- list: entries of the listing of workflows, newest or oldest first, exact to the millisecond.
--
-- The groups together hold all workflows that are asked for, and so does each tag. The index with fewer entries is read,
-- as the caller looks at each of them but for those that another index lacks. A later call of the same page is told
-- which one that was.
--
-- Reply: {the index, {{places, a digit for each: "0" where another index lacks it, or ""}, ...}}.
-- Bound: as many of each group as the caller asks for, and up to twice that to complete the last millisecond (1,000 in
--   all).
return function(keys, groups, behind, limit, oldest_first, inserted_from, inserted_before, index, tags)
  local asked = {
    behind = behind, oldest_first = oldest_first, inserted_from = inserted_from, inserted_before = inserted_before,
  }
  local chosen, pages = listing.pages(keys, groups, tags, asked, limit, index)
  return { integer.text(chosen), pages }
end
