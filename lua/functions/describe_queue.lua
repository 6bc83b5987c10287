-- describe_queue: how much waits in a queue of a partition, and when somebody last asked for its steps.
--
-- Reply: {milliseconds of the server, the queue as in queue.describe}. Reads only.
-- Bound: the first 500 entries that are taken out.
return function(keys, queue_name)
  local now = integer.text(transaction.open(keys).ms)
  local taken, first_taken = queue.taken_out(keys)
  return { now, queue.describe(keys, queue_name, taken[queue_name], first_taken[queue_name]) }
end
