-- describe_queue: how many steps wait in a queue of a partition, and when steps were last asked for there.
--
-- Reply: {milliseconds of the server, the queue as in queue.describe}. Reads only.
-- Bound: the first 500 reserved entries.
return function(keys, queue_name)
  local now = integer.text(transaction.open(keys).ms)
  local taken, first_taken = queue.taken_out(keys)
  return { now, queue.describe(keys, queue_name, taken[queue_name], first_taken[queue_name]) }
end
