-- dedupe: whether a topic has a signal on record that would swallow one of this dedupe key.
--
-- Keys: the partition's (keyslots), then the topic's hash and sorted set (topic.lua).
-- Arguments: the dedupe key (quoted).
-- Reply: the signal's number, or nil. Reads only.
return function(keys, args)
  return command("HGET", keys[keyslots.FIRST_WORKFLOW], "d" .. args[1])
end
