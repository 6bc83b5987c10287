-- topic_name: a topic's signal name and correlation key.
return function(keys)
  local text = command("HGET", keys[keyslots.FIRST_WORKFLOW], ":")
  return text and codec.topic_name(text)
end
