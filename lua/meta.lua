-- meta: the namespace's own record, made by its first client.
--
-- Keys: the meta record.
-- Arguments: the number of partitions to create it with.
-- Reply: {partitions now, partitions at creation}.
return function(keys, args)
  local found = command("HMGET", keys[1], "partitions", "homes")
  if not found[1] then
    command("HSET", keys[1], "partitions", args[1], "homes", args[1])
    return { args[1], args[1] }
  end
  return found
end
