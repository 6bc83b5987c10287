-- edges: chunks of a long edge list.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: "k" for children or "u" for parents, the step, the first and the last chunk.
-- Reply: the chunks. Reads only.
-- Bound: the chunks that the caller asks for (8), each of at most 200 names of 128 bytes.
return function(keys, args)
  local fields = {}
  for chunk = tonumber(args[3]), tonumber(args[4]) do
    fields[#fields + 1] = args[1] .. ":" .. args[2] .. ":" .. chunk
  end
  local _, payloads = keyslots.workflow(keys, 1)
  return command("HMGET", payloads, unpack(fields))
end
