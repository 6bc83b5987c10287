-- signal_of_dedupe_key: whether a topic has a signal on record that would swallow one of this dedupe key.
return function(keys, dedupe_key)
  return command("HGET", keys[keyslots.FIRST_WORKFLOW], "d" .. dedupe_key)
end
