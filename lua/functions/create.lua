-- create: makes the namespace's own record, unless there is one.
--
-- Keys: the meta record.
-- Arguments: the number of partitions to create it with, and of those that are homes to insert keys.
-- Reply: {partitions now, partitions at creation}.
-- Bound: two numbers.
return function(keys, args)
  if command("HSETNX", keys[1], "partitions", args[1]) == 1 then
    command("HSET", keys[1], "homes", args[2])
  end
  return transaction.namespace(keys[1])
end
