-- named: what a topic is called.
--
-- Keys: the partition's (keyslots), then the topic's hash and sorted set (topic.lua).
-- Arguments: none.
-- Reply: "name|key", the key percent-quoted, or nil. Reads only.
return function(keys)
  local text = command("HGET", keys[keyslots.FIRST_WORKFLOW], ":")
  return text and match(text, "^[^|]*|(.*)$")
end
