-- callbacks: the callbacks of one workflow.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the numbers of the first and the last.
-- Reply: {static, counts, records}, or {} where there is no workflow. Reads only.
-- Bound: as many records as the caller asks for (200), none longer than a few hundred bytes.
return function(keys, args)
  local w = keyslots.workflow(keys, 1)
  local found = command("HMGET", w, ":s", ":c")
  if not found[1] then
    return {}
  end
  local records = {}
  for number = tonumber(args[1]), tonumber(args[2]) do
    local text = command("HGET", w, "@" .. number)
    if not text then
      break
    end
    records[#records + 1] = text
  end
  return { found[1], found[2], records }
end
