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

local function store_all(workflow, args, at)
  local last = at + 2 * args[at]
  store(workflow.w, args, at + 1, last)
  store(workflow.p, args, last + 1, #args)
end

-- Notes when what is stored without being visible is given up.
local function give_up_later(tx, workflow)
  command("ZADD", tx.keys[keyslots.STAGED], transaction.number(tx.ms + states.INSERT_MS), workflow.id)
end

local function stage(tx, workflow, args)
  give_up_later(tx, workflow)
  store_all(workflow, args, 4)
  return { "staged" }
end

-- Whether all parts have arrived; what was staged may have been given up meanwhile.
local function is_complete(workflow, args)
  return command("HLEN", workflow.w) == tonumber(args[7]) and command("HLEN", workflow.p) == tonumber(args[8])
end

local function publish(tx, workflow, args)
  store_all(workflow, args, 10)
  if args[3] == "publish" then
    command("ZREM", tx.keys[keyslots.STAGED], workflow.id)
    if not is_complete(workflow, args) then
      command("UNLINK", workflow.w, workflow.p)
      return { "incomplete" }
    end
  end
  transaction.create(tx, workflow, args[5], tonumber(args[4]), args[6])
  -- The walk need not read back what has just been stored.
  for at = 11, 10 + 2 * args[10], 2 do
    workflow.raw[args[at]] = args[at + 1]
  end
  local done = propagate.run(tx, workflow, { "^" })
  propagate.append(workflow, "", done, done.at)
  if args[9] ~= "" then
    local item = { action = "insert", scope = "workflow", step = "", call = "", note = args[9] }
    evidence.accept(tx, workflow, item, "accepted", "", "the workflow was inserted")
  end
  flush.commit(tx, args[1])
  return { "inserted", unpack(flush.header(workflow)) }
end

local function bury(tx, workflow)
  command("UNLINK", workflow.w, workflow.p)
  give_up_later(tx, workflow)
  command("HSET", workflow.w, header.UNUSABLE, header.BURIED)
  return { "buried" }
end

return function(keys, args)
  local tx = transaction.open(keys)
  local workflow, phase = transaction.workflow(tx, 1, { header.UNUSABLE }), args[3]
  if workflow.h then
    local found = flush.header(workflow)
    return { "exists", found[1], found[2], found[3], command("HGET", workflow.w, ":k") }
  end
  if workflow.raw[header.UNUSABLE] then
    return { "buried" }
  end
  if phase == "bury" then
    return bury(tx, workflow)
  end
  if phase == "stage" then
    return stage(tx, workflow, args)
  end
  return publish(tx, workflow, args)
end
