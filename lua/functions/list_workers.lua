-- list_workers: a page of the workers whose home the partition is: when each was last seen, and what it tells.
--
-- Reply: {milliseconds of the server, where to go on, "0" at the end, {{worker, last seen in milliseconds, what it
--   tells or false}, ...}}. Reads only.
-- Bound: what ZSCAN returns for 100 members; a record has about 4 KB at most.
local WORKERS_PER_PAGE = "100"

return function(keys, cursor)
  local found = {}
  if not (transaction.is_type(keys[1], "zset") and transaction.is_type(keys[2], "hash")) then
    return { integer.text(transaction.open(keys).ms), "0", found } -- it is told anew within seconds
  end
  local page = command("ZSCAN", keys[1], cursor, "COUNT", WORKERS_PER_PAGE)
  for i = 1, #page[2], 2 do
    local worker = page[2][i]
    found[#found + 1] = { worker, page[2][i + 1], command("HGET", keys[2], worker) }
  end
  return { integer.text(transaction.open(keys).ms), page[1], found }
end
