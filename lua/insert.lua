-- insert: brings a graph in, in as many calls as it takes, and makes it visible with the last one.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, then what to do:
--   "whole" or "publish"  shows the graph, whose first parts are staged for "publish": the number of
--               steps, what stands in the static header before and after the time of insertion, how
--               many fields the two hashes must have, the client's note when the insert is to be evidence, else "",
--               and then as "stage"
--   "stage"     how many fields of the workflow's hash follow; those fields and values; fields and
--               values of its payload hash
--   "bury"      makes an id unusable, if no workflow has it
-- Reply: {"staged"}, {"inserted", static, counts, context}, {"exists", the same and the field ":k",
--   which tells whose insert it was}, {"incomplete"} when staged parts are missing and the insert has
--   to begin again, or {"buried"}.
-- Bound: 500 fields or 256 KiB of a graph a call, one larger field alone; the budget of edges from the start.
-- Writes: the two hashes, the list of staged inserts; at publishing, what a walk from the start
--   writes, statistics and the index.
-- Publishes: step_available.
--
-- A hash without a header is invisible. The start, "^", is a step that has completed before any other;
-- the steps without parents are its children, released like all others.

local function store(key, args, from, to)
  for at = from, to, 1000 do
    command("HSET", key, unpack(args, at, min(at + 999, to)))
  end
end

local function store_all(flow, args, at)
  local last = at + 2 * args[at]
  store(flow.w, args, at + 1, last)
  store(flow.p, args, last + 1, #args)
end

-- Notes when what is stored without being visible is given up.
local function give_up_later(call_, flow)
  command("ZADD", call_.keys[keyslots.STAGED], call.number(call_.ms + states.INSERT_MS), flow.id)
end

local function stage(call_, flow, args)
  give_up_later(call_, flow)
  store_all(flow, args, 4)
  return { "staged" }
end

-- Whether all parts have arrived; what was staged may have been given up meanwhile.
local function is_complete(flow, args)
  return command("HLEN", flow.w) == tonumber(args[7]) and command("HLEN", flow.p) == tonumber(args[8])
end

local function publish(call_, flow, args)
  store_all(flow, args, 10)
  if args[3] == "publish" then
    command("ZREM", call_.keys[keyslots.STAGED], flow.id)
    if not is_complete(flow, args) then
      command("UNLINK", flow.w, flow.p)
      return { "incomplete" }
    end
  end
  call.create(call_, flow, args[5], tonumber(args[4]), args[6])
  -- The walk need not read back what has just been stored.
  for at = 11, 10 + 2 * args[10], 2 do
    flow.raw[args[at]] = args[at + 1]
  end
  local done = walk.run(call_, flow, { "^" })
  walk.append(flow, "", done, done.at)
  if args[9] ~= "" then
    local item = { action = "insert", scope = "workflow", step = "", call = "", note = args[9] }
    evidence.accept(call_, flow, item, "accepted", "", "the workflow was inserted")
  end
  flush.commit(call_, args[1])
  return { "inserted", unpack(flush.header(flow)) }
end

local function bury(call_, flow)
  command("UNLINK", flow.w, flow.p)
  give_up_later(call_, flow)
  command("HSET", flow.w, header.UNUSABLE, header.BURIED)
  return { "buried" }
end

return function(keys, args)
  local call_ = call.open(keys)
  local flow, phase = call.flow(call_, 1, { header.UNUSABLE }), args[3]
  if flow.h then
    local found = flush.header(flow)
    return { "exists", found[1], found[2], found[3], command("HGET", flow.w, ":k") }
  end
  if flow.raw[header.UNUSABLE] then
    return { "buried" }
  end
  if phase == "bury" then
    return bury(call_, flow)
  end
  if phase == "stage" then
    return stage(call_, flow, args)
  end
  return publish(call_, flow, args)
end
