-- steps: records of steps, by name or by chunk of the topological order.
--
-- Bound: as many steps as are asked for (250), or a chunk (200); of inputs and contexts 1 MB, or those of one step.

-- The inputs and contexts of steps, as far as one reply holds them; names and records of the others are left out.
local function take_payloads(p, reply)
  local names, records, room = reply[4], reply[5], states.REPLY_BYTES - #(reply[3] or "")
  for i = 1, #names do
    local input, context, condition = false, false, false
    if records[i] and codec.step_payloads(records[i]) ~= "" then
      input, context, condition = unpack(command("HMGET", p, "i:" .. names[i], "c:" .. names[i], "w:" .. names[i]))
    end
    room = room - #(input or "") - #(context or "") - #(condition or "") - #(records[i] or "")
    if room < 0 and i > 1 then
      for left = #names, i, -1 do
        names[left], records[left] = nil, nil
      end
      return
    end
    reply[6][i], reply[7][i], reply[10][i] = input, context, condition
  end
end

local function waits_of(w, names, records)
  local found = {}
  for i = 1, #names do
    if records[i] and waits.is_shown(records[i]) then
      found[#found + 1] = { names[i], command("HGET", w, "~" .. names[i]) }
    end
  end
  return found
end

return function(keys, with_payloads, chunk, names)
  local w, p = keyslots.workflow(keys, 1)
  local members = "#" .. (chunk and integer.text(chunk) or "")
  local found = command("HMGET", w, ":s", ":c", members, header.ACKNOWLEDGED, header.BRANCHING, header.TAGS)
  if not found[1] then
    return false
  end
  for name in gmatch(chunk and found[3] or "", "[^,]+") do
    names[#names + 1] = name
  end
  local counts = header.for_client(found[2], found[4], found[5], found[6])
  local reply = { found[1], counts, command("HGET", p, ":"), names, {}, {}, {}, transaction.open(keys).us, {}, {} }
  if #names > 0 then
    reply[5] = command("HMGET", w, unpack(names))
    if with_payloads then
      take_payloads(p, reply)
    end
    reply[9] = waits_of(w, names, reply[5])
  end
  return reply
end
