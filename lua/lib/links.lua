-- Child workflows. A child lives in a partition of its own, and so do its parent's step and that step's wait for it:
-- what becomes of one is told to the other by the client, in calls of which each is idempotent (rwf/ops/children.py).
--
-- The child's side is its link, in its field ":b" (codec.lua). A child is inserted held, before its parent's step waits:
-- it starts when it learns that the step does, and is asked to end when it learns that the step never will. Its end is
-- told to its parent. While it has to ask or to tell, M.MEMBER stands among its wait notices (waits.lua).
--
-- The parent's side is the step's wait, whose topic is a bar and the child's id.
local M = {}

M.MEMBER = "!^"

-- The child that a wait is for, or nil.
function M.child(wait)
  return match(wait.topic, "^|(.+)$")
end

-- Whether the workflow is a child that waits for its parent's word before it starts.
function M.is_held(workflow)
  return workflow.link ~= nil and workflow.link.state == "h"
end

-- Whether the child has to ask its parent whether the step waits, or to tell it of its end.
function M.has_news(workflow)
  local link = workflow.link
  return link ~= nil and (link.state == "h" or (link.state == "s" and workflow.h.finished ~= ""))
end

-- Plans another state of the link. A child by which its parent's step has failed stays until that is gone, or has
-- no use for it (header.removal).
function M.become(workflow, state)
  local link = workflow.link
  link.state, workflow.h.needed = state, state == "f" or nil
  workflow.b.link = codec.write_link(link)
  workflow.marked = true
end

return M
