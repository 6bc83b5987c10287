-- count_gauges: a partition's gauges, the sizes of its derived sets, and what some workflows contribute to the
-- gauges.
--
-- A size "misplaced" counts entries with a score that no entry of their set can have. Among the sums are "callbacks",
-- all that were written, and "unknown", workflows that are not visible or of other semantics.
-- Bound: 64 workflows; the statistics, whose fields are of fixed sets (and one for each of 1,999 priorities).
local function listed(numbers)
  local found = {}
  for name, number in pairs(numbers) do
    found[#found + 1] = { name, integer.text(number) }
  end
  return found
end

local function gauges_of(stats)
  local fields, found = command("HGETALL", stats), {}
  for at = 1, #fields, 2 do
    if find(fields[at], "^g[swct]|") then
      found[fields[at]] = tonumber(fields[at + 1])
    end
  end
  return found
end

local function sizes_of(tx)
  local keys = tx.keys
  local ready, index = keys[keyslots.READY], keys[keyslots.INDEX]
  local reserved, latest = keys[keyslots.RESERVED], integer.text(tx.ms + states.RESERVED_MS)
  local found = {
    ready = command("ZCARD", ready), reserved = command("ZCARD", reserved),
    index = command("ZCARD", index), outbox = command("ZCARD", keys[keyslots.OUTBOX]),
    tags = command("ZCARD", keys[keyslots.TAGS]),
  }
  found.misplaced = found.ready - command("ZCOUNT", ready, "0", "0") + found.index
    - command("ZCOUNT", index, "0", "0") + command("ZCOUNT", reserved, "(" .. latest, "+inf")
    + found.tags - command("ZCOUNT", keys[keyslots.TAGS], "0", "0")
  return found
end

local function add(sums, name, by)
  sums[name] = (sums[name] or 0) + by
end

local function count(sums, workflow)
  local h = workflow.h
  if not h or not states.IMPLEMENTED[h.semantics] then
    add(sums, "unknown", 1)
    return
  end
  for code, gauge in pairs(states.STEP_GAUGE) do
    add(sums, gauge, branching.steps_in(workflow, code))
  end
  add(sums, states.WORKFLOW_GAUGE[workflow.was], 1)
  add(sums, states.CALLBACK_GAUGE.x, h.dead)
  add(sums, "callbacks", h.callbacks)
  add(sums, transaction.TAG_GAUGE, #transaction.tag_members(workflow, ""))
end

return function(keys)
  local tx, sums = transaction.open(keys), {}
  for slot = 1, (#keys - keyslots.FIRST_WORKFLOW + 1) / keyslots.WORKFLOW_STRIDE do
    count(sums, transaction.workflow(tx, slot, {}))
  end
  return { listed(gauges_of(keys[keyslots.STATS])), listed(sizes_of(tx)), listed(sums) }
end
