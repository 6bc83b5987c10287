-- audit: which of some workflows may differ from what their records imply; only a guess, for a sweep.
--
-- Keys: the partition's (keyslots), then each workflow's w and d.
-- Arguments: the groups of the listing in which the workflows stand, a letter each, as one text.
-- Reply: {how many of the workflows were looked at, how many fields were read, ids of those that may differ,
--   {id, steps, ...} of those that are too large to be read at once, {workflow, name|key, member of the
--   topic's sorted set, ...} of waits that a topic was told of}. Reads only.
--
-- Of a large graph only the header is looked at; audit_chunk has its steps. A workflow of other semantics, or
-- that is gone, is passed over. A sweep costs what this does, 1 to 3 us a field.
local FIRST_FLOW, STRIDE = keyslots.FIRST_FLOW, 2
local FIELDS_AT_ONCE, FIELDS_PER_CALL = 2 * states.CHUNK, 2000
local PENDING, ENTRY, FIXED = 112, 62, 58 -- "p", ">" and ":"
local STATIC, COUNTS, OTHER = 1, 2, 3
local HEADER = { [":s"] = STATIC, [":c"] = COUNTS, ["#0"] = OTHER, ["#1"] = OTHER, ["^"] = OTHER }

-- Of what is left to be walked, and of parts of the header, nothing is to be found elsewhere.
local function look_at_others(seen, flow, found, others)
  for i = 1, #others do
    local name, text = found[others[i]], found[others[i] + 1]
    local first = byte(name)
    if first ~= ENTRY and first ~= FIXED then
      inspect.field(seen, flow, first, name, text)
    end
  end
end

-- Reads a whole workflow. Most of its fields are steps that are pending, which imply nothing.
local function look_at_all(seen, w, d, group)
  local found, others, pending, static, counts = command("HGETALL", w), {}, 0, nil, nil
  for at = 1, #found, 2 do
    local name = found[at]
    local part = HEADER[name]
    if not part then
      if byte(found[at + 1]) == PENDING and byte(name) ~= ENTRY then
        pending = pending + 1
      else
        others[#others + 1] = at
      end
    elseif part == STATIC then
      static = found[at + 1]
    elseif part == COUNTS then
      counts = found[at + 1]
    end
  end
  local flow = inspect.open(w, d, static)
  if not flow then
    return nil
  end
  flow.tally[PENDING] = pending > 0 and pending or nil
  look_at_others(seen, flow, found, others)
  if flow.waits then
    inspect.agenda(seen, flow)
    inspect.wait_timer(seen, flow)
  end
  inspect.header(seen, flow, static, counts, group, true)
  return flow
end

-- Reads a large workflow's header, and its first callbacks.
local function look_at_header(seen, w, d, group)
  local found = command("HMGET", w, ":s", ":c")
  local flow = inspect.open(w, d, found[1])
  if not flow then
    return nil
  end
  inspect.wait_timer(seen, flow)
  local number = 1
  while number <= states.CHUNK do
    local text = command("HGET", w, "@" .. number)
    if not text then
      break
    end
    inspect.callback(seen, flow, call.number(number), text)
    number = number + 1
  end
  inspect.header(seen, flow, found[1], found[2], group, false)
  return flow
end

-- Returns the workflow, if it is one to be looked at, how many fields were read, and whether it is large.
local function look_at(seen, w, d, group)
  local size = command("HLEN", w)
  if size > FIELDS_AT_ONCE then
    return look_at_header(seen, w, d, group), 2, true
  end
  return look_at_all(seen, w, d, group), size, false
end

return function(keys, args)
  local seen = inspect.begin(call.open(keys))
  local looked, fields, flows, large, differing = 0, 0, {}, {}, {}
  while looked < #args[1] and fields < FIELDS_PER_CALL do
    local base = FIRST_FLOW + looked * STRIDE
    looked = looked + 1
    -- A record that nothing can be made of must not hide the other workflows.
    local read, flow, size, is_large = pcall(look_at, seen, keys[base], keys[base + 1], byte(args[1], looked))
    fields = fields + (read and size or FIELDS_AT_ONCE)
    if not read then
      differing[#differing + 1] = keyslots.id(keys[base])
    elseif flow then
      flows[#flows + 1] = flow
      if is_large then
        large[#large + 1], large[#large + 2] = flow.id, flow.steps
      end
    end
  end
  inspect.finish(seen)
  for i = 1, #flows do
    if flows[i].differs then
      differing[#differing + 1] = flows[i].id
    end
  end
  return { looked, fields, differing, large, seen.registered }
end
