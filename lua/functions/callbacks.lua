-- callbacks: the callbacks of one workflow.
--
-- Bound: as many records as the caller asks for (200), none longer than a few hundred bytes.
return function(keys, first, last)
  local w = keyslots.workflow(keys, 1)
  local static = command("HGET", w, ":s")
  if not static then
    return false
  end
  local records = {}
  for number = first, last do
    local text = command("HGET", w, "@" .. integer.text(number))
    if not text then
      break
    end
    records[#records + 1] = text
  end
  return { static, records }
end
