-- block_id: makes an id that no workflow has unusable, so that no insert can use it later.
--
-- Writes: the workflow's two hashes, the list of staged inserts.
return function(keys)
  local tx = transaction.open(keys)
  local workflow = transaction.workflow(tx, 1, { header.UNUSABLE })
  local taken = staging.taken(workflow)
  if taken then
    return taken
  end
  command("UNLINK", workflow.w, workflow.p)
  staging.give_up_later(tx, workflow)
  command("HSET", workflow.w, header.UNUSABLE, header.BURIED)
  return { "unusable" }
end
