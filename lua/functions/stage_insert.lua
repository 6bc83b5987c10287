-- stage_insert: stores a part of a large graph, which insert makes visible as a whole.
--
-- Bound: 500 fields or 256 KiB of a graph, or one larger field alone.
-- Writes: the two hashes, the list of staged inserts.
return function(keys, own, payload)
  local tx = transaction.open(keys)
  local workflow = transaction.workflow(tx, 1, { header.UNUSABLE })
  local taken = staging.taken(workflow)
  if taken then
    return taken
  end
  staging.give_up_later(tx, workflow)
  staging.store(workflow, own, payload)
  return { "staged" }
end
