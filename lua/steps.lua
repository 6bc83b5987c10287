-- steps: records of steps, by name or by chunk of the topological order.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: "1" to have inputs and contexts too; the number of a chunk, or "" and names.
-- Reply: {static, counts, context, names, records, inputs, contexts, microseconds of the server, waits},
--   or {} where there is no workflow; of the waits there are step, wait, step, wait, ... of the steps that
--   wait or have expired. Reads only.
local function fields_of(prefix, names)
  local fields = {}
  for i = 1, #names do
    fields[i] = prefix .. names[i]
  end
  return fields
end

local function waits_of(w, names, records)
  local found = {}
  for i = 1, #names do
    if records[i] and waits.is_shown(records[i]) then
      found[#found + 1] = names[i]
      found[#found + 1] = command("HGET", w, "~" .. names[i])
    end
  end
  return found
end

return function(keys, args)
  local w, p = keyslots.flow(keys, 1)
  local found = command("HMGET", w, ":s", ":c", "#" .. args[2])
  if not found[1] then
    return {}
  end
  local names = { unpack(args, 3) }
  if args[2] ~= "" then
    for name in gmatch(found[3] or "", "[^,]+") do
      names[#names + 1] = name
    end
  end
  local reply = { found[1], found[2], command("HGET", p, ":"), names, {}, {}, {}, call.open(keys).us, {} }
  if #names > 0 then
    reply[5] = command("HMGET", w, unpack(names))
    reply[9] = waits_of(w, names, reply[5])
    if args[1] == "1" then
      reply[6] = command("HMGET", p, unpack(fields_of("i:", names)))
      reply[7] = command("HMGET", p, unpack(fields_of("c:", names)))
    end
  end
  return reply
end
