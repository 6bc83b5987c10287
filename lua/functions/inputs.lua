-- inputs: what a claimed step's input is made of, as far as the claim's own reply had no room for it.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: how many bytes the reply may hold; "1" to have the first item whatever its size; the step; then the
--   items: "p" its input and context, "w" the workflow's context, "s" the payload of the signal that woke it, or
--   "r" and a name, the result of that step.
-- Reply: the first items that there is room for, none where there is no workflow, each as two values: input and
--   context, or a payload and nothing, or of a result what dispatch.result tells. Reads only.
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
  r = function(workflow, _, name)
    return dispatch.result(workflow, name)
  end,
}
local FIRST_ITEM = 4

return function(keys, args)
  local names = {}
  for at = FIRST_ITEM, #args do
    if byte(args[at]) == 114 then
      names[#names + 1] = sub(args[at], 2)
    end
  end
  local workflow = transaction.workflow(transaction.open(keys), 1, names)
  local room, reply = tonumber(args[1]), {}
  if not workflow.h then
    return reply
  end
  for at = FIRST_ITEM, #args do
    local one, other = READ[sub(args[at], 1, 1)](workflow, args[3], sub(args[at], 2))
    room = room - #(one or "") - #(other or "")
    if room < 0 and (#reply > 0 or args[2] ~= "1") then
      return reply
    end
    reply[#reply + 1] = one or false
    reply[#reply + 1] = other or false
  end
  return reply
end
