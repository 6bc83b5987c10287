-- namespace: the namespace's own record.
--
-- Bound: two numbers. It only reads, so that it works on a server that refuses writes.
return function(keys)
  return transaction.namespace(keys[1])
end
