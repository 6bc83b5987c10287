-- create_namespace: makes the namespace's own record, unless there is one.
--
-- Bound: two numbers.
return function(keys, partitions, home_partitions)
  if command("HSETNX", keys[1], "partitions", partitions) == 1 then
    command("HSET", keys[1], "homes", home_partitions)
  end
  return transaction.namespace(keys[1])
end
