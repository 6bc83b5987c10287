-- Staged inserts: without a header a workflow's hashes are invisible, however much they hold.
local M = {}

local AT_ONCE = 1000

local function store(key, fields)
  for at = 1, #fields, AT_ONCE do
    command("HSET", key, unpack(fields, at, min(at + AT_ONCE - 1, #fields)))
  end
end

-- Stores fields and values of the workflow's hash, and of its payload hash.
function M.store(workflow, own, payload)
  store(workflow.w, own)
  store(workflow.p, payload)
end

-- Notes when the staged fields are given up: those of a workflow, or of a fragment with this token.
function M.give_up_later(tx, workflow, token)
  local entry = token and M.fragment(workflow, token) or workflow.id
  command("ZADD", tx.keys[keyslots.STAGED], integer.text(tx.ms + states.INSERT_MS), entry)
end

-- A staged fragment's entry in the sorted set of staged fields.
function M.fragment(workflow, token)
  return workflow.id .. "|" .. token
end

-- The reply to an insert under an id that is used already, or unusable; nil for a free one.
function M.taken(workflow)
  if workflow.h then
    return { "exists", flush.header(workflow), command("HGET", workflow.w, ":k") }
  end
  return workflow.raw[header.UNUSABLE] and { "unusable" } or nil
end

return M
