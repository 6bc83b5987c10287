-- edges: chunks of a long list of a step's parents or children.
--
-- Bound: the chunks that the caller asks for (8), each of at most 200 names of 128 bytes.
return function(keys, of_parents, step, first, last)
  local fields = {}
  for chunk = first, last do
    fields[#fields + 1] = (of_parents and "u:" or "k:") .. step .. ":" .. integer.text(chunk)
  end
  local _, payloads = keyslots.workflow(keys, 1)
  return command("HMGET", payloads, unpack(fields))
end
