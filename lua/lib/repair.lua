-- Shared by the repairs of a workflow. A repair is {kind, step}; the step is empty for the workflow as a whole.
local M = {}

-- A workflow is in the listing once: in the group of the state that it had before this call.
function M.check_index(tx, workflow, repairs)
  if workflow.listed then
    return -- it moves with this call
  end
  local index = tx.keys[keyslots.INDEX]
  local groups = { states.WORKFLOW_CODE[workflow.was] or "o" }
  for _, group in ipairs(states.GROUPS) do
    if group ~= groups[1] then
      groups[#groups + 1] = group
    end
  end
  for i, group in ipairs(groups) do
    local member = header.index_member(workflow, group)
    local is_listed = command("ZSCORE", index, member)
    if i == 1 and not is_listed then
      command("ZADD", index, "0", member)
      repairs[#repairs + 1] = { "index_entry_missing", "" }
    elseif i > 1 and is_listed then
      command("ZREM", index, member)
      repairs[#repairs + 1] = { "index_entry_wrong", "" }
    end
  end
end

-- Each of its tags has an entry at the place of the workflow; entries elsewhere are removed by remove_orphans.
function M.check_tags(tx, workflow, repairs)
  if workflow.listed then
    return -- they move with this call
  end
  local members = transaction.tag_members(workflow, header.place(workflow))
  for i = 1, #members do
    if not command("ZSCORE", tx.keys[keyslots.TAGS], members[i]) then
      command("ZADD", tx.keys[keyslots.TAGS], "0", members[i])
      repairs[#repairs + 1] = { "tag_entry_missing", "" }
    end
  end
end

-- Counts the repairs, and writes the plan; nothing on a healthy workflow.
function M.finish(tx, repairs)
  for i = 1, #repairs do
    transaction.count(tx, "rr|" .. repairs[i][1], 1)
  end
  if #repairs > 0 then
    flush.commit(tx)
  end
end

return M
