-- inputs: the parts of a claimed step's input for which the claim's own reply had no room.
--
-- Bound: as many bytes as the caller has room for, or one item whatever its size.
local READ = {
  p = function(workflow, step)
    return unpack(command("HMGET", workflow.p, "i:" .. step, "c:" .. step))
  end,
  w = function(workflow)
    return command("HGET", workflow.p, ":"), false
  end,
  s = function(workflow, step)
    return command("HGET", workflow.p, "s:" .. step), false
  end,
  c = function(workflow, step)
    return command("HGET", workflow.p, "w:" .. step), false
  end,
  o = function(workflow, _, name)
    return dispatch.outcome(workflow, name)
  end,
  l = function(workflow, _, place)
    local name, chunk = match(place, "^(.+):(%d+)$")
    local step = transaction.step(workflow, name)
    local is_done = step.state == "c" and branching.has_result(step)
    return is_done and command("HGET", workflow.p, "y:" .. name .. ":" .. step.reported .. ":" .. chunk), false
  end,
  r = function(workflow, _, name)
    return dispatch.result(workflow, name)
  end,
}

return function(keys, room, whole_first, step, items)
  local names, reply = {}, {}
  for i = 1, #items do
    if find(items[i], "^[ro]") then
      names[#names + 1] = sub(items[i], 2)
    end
  end
  local workflow = transaction.workflow(transaction.open(keys), 1, names)
  if not workflow.h then
    return reply
  end
  for i = 1, #items do
    local one, other = READ[sub(items[i], 1, 1)](workflow, step, sub(items[i], 2))
    room = room - #(one or "") - #(other or "")
    if room < 0 and (#reply > 0 or not whole_first) then
      return reply
    end
    reply[i] = { one or false, other or false }
  end
  return reply
end
