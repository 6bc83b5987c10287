-- find: of some workflows those that a filter may hold of, with their headers.
--
-- Reply: {{slot, the fixed part of its header, the moving part as clients get it (header.lua), its order}, ...}.
-- Bound: as many workflows as are asked for (64); the cheapest to judge comes first.
local NO_ORDER = "0000000" -- inserted by an earlier release

local function has_tags(stored, tags)
  stored = "," .. (stored or "") .. ","
  for i = 1, #tags do
    if not find(stored, "," .. tags[i] .. ",", 1, true) then
      return false
    end
  end
  return true
end

-- Whether the workflow is in one of these groups of the listing and, where it has to, has trouble for an operator.
local function stands(counts, groups, troubled)
  local h = codec.read_counts(counts or "")
  local group = states.WORKFLOW_CODE[states.workflow_state(h)] or "o"
  return find(groups, group, 1, true) and (not troubled or h.f + h.d + h.t + h.dead > 0 or h.review ~= "")
end

local function parent_of(stored)
  local link = stored and codec.read_branching(stored).link or ""
  return link ~= "" and codec.read_link(link).workflow
end

-- Whether the header is of this name; its end rules most others out, in a fraction of the time.
local function is_named(static, name)
  return sub(static, -#name) == name and header.name(static) == name
end

-- The fixed part of the header, and the stored tags, where the workflow has this name and these tags, which rule most
-- out; else nothing.
local function fitting(key, named, tags)
  local static, stored = unpack(command("HMGET", key, ":s", header.TAGS))
  if static and (not named or is_named(static, named)) and (#tags == 0 or has_tags(stored, tags)) then
    return static, stored
  end
end

return function(keys, groups, troubled, named, failed_step, parent, tags)
  local found = {}
  for slot = 1, #keys do
    local static, stored = fitting(keys[slot], named, tags)
    if static then
      local counts, order, acknowledged, branch, step = unpack(command(
        "HMGET", keys[slot], ":c", header.ORDER, header.ACKNOWLEDGED, header.BRANCHING, failed_step or ":c"
      ))
      if
        (not parent or parent_of(branch) == parent)
        and (not failed_step or step and states.FAILED[sub(step, 1, 1)])
        and stands(counts, groups, troubled)
      then
        found[#found + 1] = {
          integer.text(slot), static, header.for_client(counts, acknowledged, branch, stored), order or NO_ORDER,
        }
      end
    end
  end
  return found
end
