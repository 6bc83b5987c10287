-- results: the result rows of steps, as many as one reply holds.
--
-- Bound: 1 MB of rows, payloads and tracebacks, or one larger attempt.

-- The first and the last attempt asked for.
local function range(reported, latest, attempt)
  if latest then
    return max(reported, 1), reported
  end
  return attempt or 1, attempt and min(attempt, reported) or reported
end

-- The record of an attempt: its row and, with payloads, its payload and its traceback; and how large they are.
local function stored_of(p, key, with_payloads)
  if not with_payloads then
    local row = command("HGET", p, "r:" .. key)
    return { row }, #(row or "")
  end
  local found = command("HMGET", p, "r:" .. key, "o:" .. key, "t:" .. key)
  return found, #(found[1] or "") + #(found[2] or "") + #(found[3] or "")
end

return function(keys, with_payloads, latest, attempt, first_attempt, names)
  local w, p = keyslots.workflow(keys, 1)
  local found = command("HMGET", w, ":s", unpack(names))
  if not found[1] then
    return false
  end
  local rows, room = {}, states.REPLY_BYTES
  for i = 1, #names do
    local step = found[i + 1] and codec.read_step(found[i + 1])
    local first, last = range(step and tonumber(step.reported) or 0, latest, attempt)
    for number = first_attempt or first, last do
      local key = names[i] .. ":" .. integer.text(number)
      local stored, size = stored_of(p, key, with_payloads)
      room = room - size
      if #rows == states.REPLY_ITEMS or (room < 0 and #rows > 0) then
        return { rows, i, number }
      end
      rows[#rows + 1] = { names[i], number, stored[1] or false, stored[2] or false, stored[3] or false }
    end
    first_attempt = nil
  end
  return { rows, 0, 0 }
end
