-- list_bulk: lists a bulk session that the listing may lack.
--
-- Writes: the listing.
return function(keys)
  local session = bulk.read(keys)
  if session then
    bulk.list(keys, session)
  end
end
