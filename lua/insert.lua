-- insert: brings a graph in, in as many calls as it takes, and makes it visible with the last one.
--
-- Keys: the partition's, then four of the workflow (keyslots).
-- Arguments: the publishing verb, "1" when sent before, "whole", "stage" or "publish", then how many fields of
--   the workflow's hash follow, those fields and values, and the fields and values of its payload
--   hash. Before the number of fields, "whole" and "publish" have: the number of steps, what stands in the static
--   header before and after the time of insertion, and how many fields the two hashes must have.
--   "bury" has nothing more: it makes this id unusable, if no workflow has it yet.
-- Reply: {"staged"}, {"inserted"|"exists", static, counts, context}, {"incomplete"} when staged parts
--   are missing and the insert has to begin again, or {"buried"}.
-- Writes: the two hashes, the timer that removes what was staged and left; at publishing, what a walk
--   from the start writes, statistics and the index.
-- Publishes: step_available.
--
-- A hash without a header is invisible. The start, "^", is a step that has completed before any other;
-- the steps without parents are its children, released like all others.
local STAGED_FOR_MS = 600000

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

local function stage(call_, flow, args)
  store_all(flow, args, 4)
  call.set_timer(call_, flow, "i", "", call_.ms + STAGED_FOR_MS)
  flush.commit(call_, args[1])
  return { "staged" }
end

local function publish(call_, flow, args)
  store_all(flow, args, 9)
  if command("HLEN", flow.w) ~= tonumber(args[7]) or command("HLEN", flow.p) ~= tonumber(args[8]) then
    command("UNLINK", flow.w, flow.p)
    return { "incomplete" }
  end
  call.create(call_, flow, args[5], tonumber(args[4]), args[6])
  if args[3] == "publish" then
    call.drop_timer(call_, flow, "i", "")
  end
  local done = walk.run(call_, flow, { "^" })
  walk.append(flow, "", done, done.at)
  flush.commit(call_, args[1])
  return { "inserted", unpack(flush.header(flow)) }
end

local BURIED = ":x"

local function bury(call_, flow, args)
  command("UNLINK", flow.w, flow.p)
  command("HSET", flow.w, BURIED, "1")
  call.set_timer(call_, flow, "i", "", call_.ms + STAGED_FOR_MS)
  flush.commit(call_, args[1])
  return { "buried" }
end

return function(keys, args)
  local call_ = call.open(keys)
  local flow = call.flow(call_, 1, {})
  if flow.h then
    return { "exists", unpack(flush.header(flow)) }
  end
  if args[3] == "bury" then
    return bury(call_, flow, args)
  end
  if command("HEXISTS", flow.w, BURIED) == 1 then
    return { "buried" }
  end
  if args[3] == "stage" then
    return stage(call_, flow, args)
  end
  return publish(call_, flow, args)
end
