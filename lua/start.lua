-- start: gives reserved steps to a worker.
--
-- Keys: the partition's, then each workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, the claim's token, the worker (quoted), the lease
--   in milliseconds; then for each entry: slot, step, "class|order".
-- Reply: {claims, flows, microseconds of the server}. A claim is false for a step that is not to be had
--   any more, else {record, input, context, wait, signal's payload, references}; references are step,
--   what it is, payload, ...: "n" null, "v" a value, "m" missing. A flow, by slot, is {static, counts,
--   context}, or {}.
-- Writes: records, counts, ready queue, reserved entries, timers, statistics, evidence of waits that have
--   expired.
local FIRST_ENTRY, WIDTH = 6, 3

local function read_entries(args)
  local entries, names = {}, {}
  for at = FIRST_ENTRY, #args, WIDTH do
    local slot, step = tonumber(args[at]), args[at + 1]
    entries[#entries + 1] = { slot = slot, step = step, place = args[at + 2] }
    names[slot] = names[slot] or {}
    table.insert(names[slot], step)
  end
  return entries, names
end

-- Starts an entry's step; false when it is not to be had. An entry whose step has gone elsewhere is
-- dropped; one whose workflow may not be touched goes back by itself.
local function start(call_, flow, entry, args)
  local step = flow.h and call.step(flow, entry.step)
  if step and args[2] == "1" and claims.has_token(step, args[3]) then
    return true
  end
  if not step or step.state ~= "a" or record.class(step.static) .. "|" .. step.order ~= entry.place then
    call_.queued[entry.place .. "|" .. flow.id .. "|" .. entry.step] = false
    return false
  end
  if flow.h.semantics ~= states.VERSION or flow.h.cancel ~= "" then
    return false
  end
  claims.start(call_, flow, entry.step, step, args[3], args[4], args[5])
  return true
end

-- What became of the steps that an input refers to: step, what it is, payload, ...
local function references(flow, name)
  local text = command("HGET", flow.p, "f:" .. name) or ""
  local names, found = {}, {}
  for parent in gmatch(text, "[^,]+") do
    names[#names + 1] = parent
  end
  call.fetch(flow, names)
  for i = 1, #names do
    local step = call.step(flow, names[i])
    local kind, payload = "n", false
    if step.state == "c" and step.cause ~= states.SKIPPED.cause then
      payload = command("HGET", flow.p, "o:" .. names[i] .. ":" .. step.reported)
      local row = payload or command("HEXISTS", flow.p, "r:" .. names[i] .. ":" .. step.reported) == 1
      kind = payload and "v" or row and "n" or "m"
    end
    found[#found + 1], found[#found + 2], found[#found + 3] = names[i], kind, payload
  end
  return found
end

local function answer(flow, entry)
  local text = call.text(flow, entry.step)
  local reply, payloads = { text, false, false, false, false, {} }, record.payloads(text)
  if payloads ~= "" then
    local found = command("HMGET", flow.p, "i:" .. entry.step, "c:" .. entry.step)
    reply[2], reply[3] = found[1], found[2]
  end
  local wait = waits.latest(flow, entry.step)
  if wait and wait.status == "r" then
    reply[4], reply[5] = waits.write(wait), command("HGET", flow.p, "s:" .. entry.step)
  end
  if find(payloads, "r", 1, true) then
    reply[6] = references(flow, entry.step)
  end
  return reply
end

return function(keys, args)
  local entries, names = read_entries(args)
  local call_ = call.open(keys)
  for slot = 1, #names do
    local flow = call.flow(call_, slot, names[slot])
    waits.expire(call_, flow, {})
    waits.load(flow, names[slot])
  end
  local started, replies, flows = {}, {}, {}
  for i = 1, #entries do
    started[i] = start(call_, call_.flows[entries[i].slot], entries[i], args)
  end
  flush.commit(call_, args[1])
  for i = 1, #entries do
    replies[i] = started[i] and answer(call_.flows[entries[i].slot], entries[i])
  end
  for slot = 1, #names do
    flows[slot] = flush.header(call_.flows[slot])
  end
  return { replies, flows, call_.us }
end
