-- stats: a partition's statistics, since when its longest waiting step and its sweep have been waiting, and how far
-- the sweep of open workflows has come.
--
-- Reply: {milliseconds of the server, since when the longest waiting step has been available or nil, the
--   bound to go on from or nil, the sweep's hash, the statistics, how many open workflows the listing has up to
--   the place of the sweep, and how many in all}; hashes as {field, value, ...}. Reads only.
-- Bound: 200 classes of the ready queue a call; the two hashes have fields of bounded sets only: their labels,
--   one for each of 1,999 priorities, and those of 200 queues and names (throughput.lua).
local function progress(index, hash)
  local at = command("HGET", hash, "open:at")
  if not at then
    return "0", "0"
  end
  local to = find(at, "^o|.") and "[" .. at or "(o|"
  return integer.text(command("ZLEXCOUNT", index, "[o|", to)), integer.text(command("ZLEXCOUNT", index, "[o|", "(o}"))
end

return function(keys, resume_at)
  local tx, hash = transaction.open(keys), keys[keyslots.FIRST_WORKFLOW]
  local oldest, from = queue.oldest(tx, resume_at)
  return {
    integer.text(tx.ms), oldest and integer.text(oldest) or false, from,
    command("HGETALL", hash), command("HGETALL", keys[keyslots.STATS]), progress(keys[keyslots.INDEX], hash),
  }
end
