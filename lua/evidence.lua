-- evidence: a page of a workflow's evidence, or of the partition's log of what concerns none.
--
-- Keys: the partition's and, but for the log, the workflow's (keyslots).
-- Arguments: "accepted", "noise" or "log"; the first and the last index.
-- Reply: {entries, how many there are, how many were dropped to make room}. Reads only.
return function(keys, args)
  local w, _, accepted, noise = keyslots.flow(keys, 1)
  local lists = { accepted = accepted, noise = noise, log = keys[keyslots.LOG] }
  local list = lists[args[1]]
  return {
    command("LRANGE", list, args[2], args[3]),
    command("LLEN", list),
    w and command("HGET", w, ":d") or "0",
  }
end
