-- stats: what a partition has counted, and since when its steps and its sweep have been waiting.
--
-- Keys: the partition's (keyslots), then its sweep's hash.
-- Arguments: the bound in the ready queue to go on from, "-" to begin.
-- Reply: {milliseconds of the server, since when the longest waiting step has been available or nil, the
--   bound to go on from or nil, the sweep's hash, the statistics}; hashes as {field, value, ...}. Reads
--   only.
return function(keys, args)
  local call_ = call.open(keys)
  local oldest, from = queue.oldest(call_, args[1])
  return {
    call.number(call_.ms), oldest and call.number(oldest) or false, from,
    command("HGETALL", keys[keyslots.FIRST_FLOW]), command("HGETALL", keys[keyslots.STATS]),
  }
end
