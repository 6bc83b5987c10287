-- signal_of_dedupe_key: whether a topic has a signal on record of which one with this dedupe key would be a
-- duplicate.
return function(keys, dedupe_key)
  return command("HGET", keys[keyslots.FIRST_WORKFLOW], "d" .. dedupe_key)
end
