-- Result rows: one for each attempt that reported, in fields "r:step:attempt" of the payload hash,
-- with the payload's bytes, when there are any, in "o:step:attempt", and the handler's traceback in
-- "t:step:attempt". For each command id that a caller gave, "@step:command" says which row that is, as "r:attempt".
-- The latest retry that counted no attempt is "q:step".
local M = {}

-- Adds names to one of the row's two lists, as far as it has room; count is the number of names before.
local function listed(text, count, names)
  local room = states.LISTED - count
  if room <= 0 then
    return text
  end
  local more = concat(names, ",", 1, min(room, #names))
  return text == "" and more or text .. "," .. more
end

-- Adds the steps that a walk has released and cancelled, false for none.
function M.add_walked(row, released, cancelled)
  if released then
    row.released_names = listed(row.released_names, row.released, released)
    row.released = integer.text(row.released + #released)
  end
  if cancelled then
    row.cancelled_names = listed(row.cancelled_names, row.cancelled, cancelled)
    row.cancelled = integer.text(row.cancelled + #cancelled)
  end
end

-- Plans a row, as text, and, when given, its payload and its traceback.
function M.put(workflow, key, text, payload, traceback)
  local fields = workflow.rows
  local at = #fields
  fields[at + 1], fields[at + 2] = "r:" .. key, text
  if payload then
    fields[at + 3], fields[at + 4] = "o:" .. key, payload
  end
  if traceback then
    M.set(workflow, "t:" .. key, traceback)
  end
end

-- Plans another field of the payload hash.
function M.set(workflow, field, value)
  local fields = workflow.rows
  local at = #fields
  fields[at + 1], fields[at + 2] = field, value
end

-- The row of one of a step's attempts, or nil where it never reported.
function M.of(workflow, name, attempt)
  local text = command("HGET", workflow.p, "r:" .. name .. ":" .. attempt)
  if not text then
    return nil
  end
  local row = codec.read_row(text)
  row.attempt = attempt
  return row
end

-- The row that a lease of a step has reported in, or nil. A lease begins with the number of its attempt; the report
-- is in the next row when the claim counted none and that attempt had reported before (claims.lua).
function M.of_lease(workflow, name, lease)
  local attempt = tonumber(match(lease, "^(%d+)%-") or 0)
  for n = max(attempt, 1), min(attempt + 1, tonumber(transaction.step(workflow, name).reported)) do
    local row = M.of(workflow, name, integer.text(n))
    if row and row.lease == lease then
      return row
    end
  end
  return nil
end

-- Plans the row of a retry that counts no attempt, in place of the last one's.
function M.keep_put_off(workflow, name, attempt, text)
  M.set(workflow, "q:" .. name, codec.write_put_off({ attempt = attempt, row = text }))
end

-- The row of the latest retry of a step that counted no attempt, or nil. It is found even when the call that wrote it
-- was cut off before the step's record was written, which is older then.
function M.put_off(workflow, name)
  local stored = command("HGET", workflow.p, "q:" .. name)
  if not stored then
    return nil
  end
  local latest = codec.read_put_off(stored)
  local row = codec.read_row(latest.row)
  local since = tonumber(transaction.step(workflow, name).since) or 0
  if workflow.h.inserted + since < floor(sub(row.stamp, 1, -5) / 1000) then
    return nil
  end
  row.attempt, row.text = latest.attempt, latest.row
  return row
end

-- Plans the note which row a step's command id is on record in.
function M.put_command(workflow, name, id, place)
  local fields = workflow.rows
  local at = #fields
  fields[at + 1], fields[at + 2] = "@" .. name .. ":" .. id, place
end

-- The row that a step's command id is on record in, or nil. It is found even when the call that wrote it was cut off
-- before the step's record was written.
function M.of_command(workflow, name, id)
  local place = command("HGET", workflow.p, "@" .. name .. ":" .. id)
  local attempt = place and match(place, "^r:(%d+)$")
  if attempt and tonumber(attempt) <= tonumber(transaction.step(workflow, name).reported) then
    return M.of(workflow, name, attempt)
  end
  return nil
end

return M
