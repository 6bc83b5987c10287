-- count: how many places some groups of the listing have, or a tag.
--
-- Bound: five groups, each counted in logarithmic time.
return function(keys, groups, inserted_from, inserted_before, tag)
  local asked = { inserted_from = inserted_from, inserted_before = inserted_before }
  return listing.count(listing.ranges(keys, groups, { tag }, asked))
end
