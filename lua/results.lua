-- results: the result rows of steps.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: "1" to have the payloads too; an attempt, "latest", or "" for all; names.
-- Reply: {"1" when the workflow exists, {step, attempt, row, payload, ...} for each row}. A step that
--   does not exist, or never reported, has none. Reads only.
-- The first and the last of the attempts that are asked for.
local function range(reported, which)
  if which == "latest" then
    return max(reported, 1), reported
  end
  local attempt = tonumber(which)
  return attempt or 1, attempt and min(attempt, reported) or reported
end

return function(keys, args)
  local w, p = keyslots.flow(keys, 1)
  local names = { unpack(args, 3) }
  local found = command("HMGET", w, ":s", unpack(names))
  if not found[1] then
    return {}
  end
  local reply, fields = {}, {}
  for i = 1, #names do
    local step = found[i + 1] and record.read(found[i + 1])
    local first, last = range(step and tonumber(step.reported) or 0, args[2])
    for attempt = first, last do
      local key = names[i] .. ":" .. attempt
      fields[#fields + 1] = "r:" .. key
      fields[#fields + 1] = "o:" .. key
      reply[#reply + 1] = { names[i], tostring(attempt) }
    end
  end
  for i = 1, #reply do
    local row = command("HGET", p, fields[2 * i - 1])
    reply[i][3] = row
    reply[i][4] = row and args[1] == "1" and command("HGET", p, fields[2 * i])
  end
  return { "1", reply }
end
