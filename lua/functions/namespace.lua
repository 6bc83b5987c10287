-- namespace: the namespace's own record.
--
-- Bound: two numbers. Only reads, so that a server that takes no writes can still be looked at.
return function(keys)
  return transaction.namespace(keys[1])
end
