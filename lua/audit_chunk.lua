-- audit_chunk: the same as audit for one chunk of a large graph's steps.
--
-- Keys: the partition's (keyslots), then the workflow's w and d.
-- Arguments: the number of the chunk.
-- Reply: {"1" when some of it may differ, else "", waits that a topic was told of as in audit, the counts as
--   they stand in the header, a count for each step state in the chunk}; {} where there is nothing to look
--   at. Reads only.
return function(keys, args)
  local w, d = keys[keyslots.FIRST_FLOW], keys[keyslots.FIRST_FLOW + 1]
  local found = command("HMGET", w, ":s", ":c", "#" .. args[1])
  local flow = inspect.open(w, d, found[1])
  if not flow or not found[3] then
    return {}
  end
  local seen, names, places = inspect.begin(call.open(keys)), {}, {}
  for name in gmatch(found[3], "[^,]+") do
    names[#names + 1], places[#places + 1] = name, "~" .. name
  end
  local records, stored = command("HMGET", w, unpack(names)), command("HMGET", w, unpack(places))
  for i = 1, #names do
    inspect.step(seen, flow, names[i], records[i] or "")
    if stored[i] then
      inspect.wait(seen, flow, names[i], stored[i])
    end
  end
  if flow.waits then
    inspect.agenda(seen, flow)
  end
  inspect.finish(seen)
  local tally = {}
  for i = 1, #states.CODES do
    tally[i] = flow.tally[byte(states.CODES[i])] or 0
  end
  return { flow.differs and "1" or "", seen.registered, found[2], tally }
end
