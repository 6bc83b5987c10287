-- insert: stores graphs, or the last part of a large one, and makes them visible.
--
-- Bound: 64 graphs, with 500 fields or 256 KiB of them together, or one larger field alone; the call's budget of edges
--   from their starts.
-- Writes: the two hashes, the list of staged inserts; everything that a walk from the start writes, statistics, the index and the
--   tag index.
-- Publishes: step_available.
-- A child workflow is held: it starts at its parent's word (links.lua).
--
-- The start, "^", is a step that has completed before any other; the steps without parents are its children,
-- released like all others.

-- Stores the last part of a graph. Returns false when other parts are missing, as staged parts may have been
-- discarded meanwhile.
local function complete(tx, workflow, graph, own, payload)
  staging.store(workflow, own, payload)
  command("ZREM", tx.keys[keyslots.STAGED], workflow.id)
  local whole = command("HLEN", workflow.w) == graph.own_count and command("HLEN", workflow.p) == graph.payload_count
  if not whole then
    command("UNLINK", workflow.w, workflow.p)
  end
  return whole
end

-- Notes the workflow's start time and deadline. Returns whether it starts now.
local function schedule(tx, workflow, graph)
  local kind, number = match(graph.starts, "^([=+])(%-?%d+)$")
  local since = kind and (kind == "+" and tonumber(number) or number - tx.ms) or 0
  since = max(since, 0)
  if since > 0 then
    workflow.b.starts = integer.text(since)
  end
  if graph.deadline_ms then
    workflow.b.deadline = integer.text(since + graph.deadline_ms)
  end
  return since == 0
end

-- Plans a graph's fields, and releases the steps that come first.
local function show(tx, workflow, graph, own, payload, note)
  -- The walk need not read back fields that this call stores.
  for at = 1, #own, 2 do
    workflow.raw[own[at]] = own[at + 1]
  end
  workflow.tags = workflow.raw[header.TAGS]
  if not graph.staged then
    workflow.fields, workflow.rows = own, payload
  end
  transaction.create(tx, workflow, graph.static)
  transaction.place_tags(tx, workflow, header.place(workflow), true)
  if graph.link ~= "" then
    workflow.link = codec.read_link(graph.link)
    links.become(workflow, "h")
  end
  if (not workflow.b or schedule(tx, workflow, graph)) and not links.is_held(workflow) then
    local done = propagate.run(tx, workflow, { "^" })
    propagate.append(workflow, "", done, done.at)
  end
  if note then
    local item = { action = "insert", scope = "workflow", step = "", call = "", note = note }
    evidence.accept(tx, workflow, item, "accepted", "", "the workflow was inserted")
  end
end

return function(tx, note, graphs, fields)
  local replies, at = {}, 0
  for slot = 1, #graphs do
    local graph = graphs[slot]
    local workflow, middle = transaction.workflow(tx, slot, { header.UNUSABLE }), at + graph.own
    local reply, first = staging.taken(workflow), at + 1
    at = middle + graph.payload
    if not reply then
      local own, payload = { unpack(fields, first, middle) }, { unpack(fields, middle + 1, at) }
      if graph.staged and not complete(tx, workflow, graph, own, payload) then
        reply = { "incomplete" }
      else
        show(tx, workflow, graph, own, payload, note)
      end
    end
    replies[slot] = reply or false
  end
  flush.commit(tx)
  for slot = 1, #graphs do
    replies[slot] = replies[slot] or { "inserted", flush.header(tx.workflows[slot]) }
  end
  return replies
end
