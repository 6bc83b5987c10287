-- results: the result rows of steps, as many as one reply holds.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: "1" to have the payloads too; an attempt, "latest", or "" for all; the attempt to go on from in
--   the first of the names, or ""; names.
-- Reply: {"1" when the workflow exists, {step, attempt, row, payload, ...} for each row, where to go on: the
--   number of a name, from 1, and its attempt; nothing at the end}. A step that does not exist, or never
--   reported, has none. Reads only.
-- The first and the last of the attempts that are asked for.
local function range(reported, which)
  if which == "latest" then
    return max(reported, 1), reported
  end
  local attempt = tonumber(which)
  return attempt or 1, attempt and min(attempt, reported) or reported
end

return function(keys, args)
  local w, p = keyslots.workflow(keys, 1)
  local names, from = { unpack(args, 4) }, tonumber(args[3])
  local found = command("HMGET", w, ":s", unpack(names))
  if not found[1] then
    return {}
  end
  local reply, room = {}, states.REPLY_BYTES
  for i = 1, #names do
    local step = found[i + 1] and record.read(found[i + 1])
    local first, last = range(step and tonumber(step.reported) or 0, args[2])
    for attempt = from or first, last do
      local key = names[i] .. ":" .. attempt
      local row = command("HGET", p, "r:" .. key)
      local payload = row and args[1] == "1" and command("HGET", p, "o:" .. key)
      room = room - #(row or "") - #(payload or "")
      if #reply == states.REPLY_ITEMS or (room < 0 and #reply > 0) then
        return { "1", reply, { tostring(i), tostring(attempt) } }
      end
      reply[#reply + 1] = { names[i], tostring(attempt), row, payload }
    end
    from = nil
  end
  return { "1", reply, {} }
end
