-- meta: the namespace's own record.
--
-- Keys: the meta record.
-- Reply: {partitions now, partitions at creation}, both nil when there is none. Reads only, so that a
--   server that takes no writes can still be looked at.
-- Bound: two numbers.
return function(keys)
  return transaction.namespace(keys[1])
end
