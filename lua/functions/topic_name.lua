-- topic_name: what a topic is called.
return function(keys)
  local text = command("HGET", keys[keyslots.FIRST_WORKFLOW], ":")
  return text and codec.topic_name(text)
end
