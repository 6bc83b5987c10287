-- page: some entries of each of some sorted sets, whatever their scores are.
--
-- Bound: about 100 entries of each of at most 64 sets, or all of one that the server keeps packed (128 by
--   default).
local ENTRIES_PER_PAGE = "100"

return function(keys, cursors)
  local pages = {}
  for i = 1, #keys do
    pages[i] = false
    if transaction.is_type(keys[i], "zset") then
      local found, members = command("ZSCAN", keys[i], cursors[i], "COUNT", ENTRIES_PER_PAGE), {}
      for at = 1, #found[2], 2 do
        members[#members + 1] = found[2][at]
      end
      pages[i] = { found[1], members }
    end
  end
  return pages
end
