-- insert: brings a graph in, or the last part of one, and makes it visible.
--
-- Bound: 500 fields or 256 KiB of a graph, or one larger field alone; the budget of edges from the start.
-- Writes: the two hashes, the list of staged inserts; what a walk from the start writes, statistics and the index.
-- Publishes: step_available.
--
-- The start, "^", is a step that has completed before any other; the steps without parents are its children,
-- released like all others.

-- Whether all parts have arrived; what was staged may have been given up meanwhile.
local function is_complete(workflow, own_count, payload_count)
  return command("HLEN", workflow.w) == own_count and command("HLEN", workflow.p) == payload_count
end

return function(tx, staged, static, own_count, payload_count, note, own, payload)
  local workflow = transaction.workflow(tx, 1, { header.UNUSABLE })
  local taken = staging.taken(workflow)
  if taken then
    return taken
  end
  staging.store(workflow, own, payload)
  if staged then
    command("ZREM", tx.keys[keyslots.STAGED], workflow.id)
    if not is_complete(workflow, own_count, payload_count) then
      command("UNLINK", workflow.w, workflow.p)
      return { "incomplete" }
    end
  end
  transaction.create(tx, workflow, static)
  -- The walk need not read back what has just been stored.
  for at = 1, #own, 2 do
    workflow.raw[own[at]] = own[at + 1]
  end
  local done = propagate.run(tx, workflow, { "^" })
  propagate.append(workflow, "", done, done.at)
  if note then
    local item = { action = "insert", scope = "workflow", step = "", call = "", note = note }
    evidence.accept(tx, workflow, item, "accepted", "", "the workflow was inserted")
  end
  flush.commit(tx)
  return { "inserted", flush.header(workflow) }
end
