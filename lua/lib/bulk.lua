-- Bulk sessions: one command on many workflows, carried out a slice at a time by whoever has the session's lease.
--
-- Keys: the listing of sessions (sorted set, equal scores: "o|created|id" while open, "d|created|id" once done), the
-- session, and its refusals (a list). The session is a hash:
--   s               the command, as the client has it (JSON); never changes
--   created, done   when, in milliseconds
--   runner, until   who carries out the next slice, and until when others leave it to them
--   n               how many slices were selected
--   cursor          where the selection stands; last is there once nothing is left to be selected
--   hand            the workflows of the latest slice
--   reported        how many slices were reported; hand is of one that is not while this is less than n
--   selected        how many workflows were selected so far
--   refused         how many refusals are kept
--   c|OUTCOME       how many workflows have had this outcome
--   stopped         the note of who has stopped it
-- A slice that was selected is carried out, under command ids of its own, by everybody who finds it in hand, and
-- reported once. So each workflow has the command once, and counts once.
local M = {}

M.LISTING = 1
M.SESSION = 2
M.REFUSALS = 3
M.FIELDS = { "created", "done", "runner", "until", "n", "cursor", "last", "hand", "s", "stopped", "reported", "refused" }

local DONE_KEPT = 1000 -- sessions that are listed once they are done

function M.id(key)
  return match(key, "[^:]*$")
end

-- The fields of a session by name; nil where there is none.
function M.read(keys)
  local found, session = command("HMGET", keys[M.SESSION], unpack(M.FIELDS)), {}
  for i = 1, #M.FIELDS do
    session[M.FIELDS[i]] = found[i] or nil
  end
  if tonumber(session.n or "0") == tonumber(session.reported or "0") then
    session.hand = nil
  end
  return session.s and session
end

local function member(group, session, id)
  return group .. "|" .. format("%011x", session.created) .. "|" .. id
end

-- Lists a session where it belongs, and nowhere else.
function M.list(keys, session)
  transaction.drop_other(keys[M.LISTING], "zset")
  local id, own, other = M.id(keys[M.SESSION]), "o", "d"
  if session.done then
    own, other = "d", "o"
  end
  if not command("ZSCORE", keys[M.LISTING], member(own, session, id)) then
    command("ZADD", keys[M.LISTING], "0", member(own, session, id))
  end
  command("ZREM", keys[M.LISTING], member(other, session, id))
  local over = command("ZLEXCOUNT", keys[M.LISTING], "[d|", "(d}") - DONE_KEPT
  if over > 0 then
    local oldest = command("ZRANGEBYLEX", keys[M.LISTING], "[d|", "(d}", "LIMIT", "0", integer.text(min(over, 100)))
    command("ZREM", keys[M.LISTING], unpack(oldest))
  end
end

-- Ends a session with nothing in hand that was stopped, or has no more to be selected; it is kept for a while. Where this
-- is cut off, the session is still listed as open, and whoever takes it next does the rest.
function M.end_if_over(tx, session)
  local keys = tx.keys
  if session.done or session.hand or not (session.stopped or session.last == "1") then
    return
  end
  session.done = integer.text(tx.ms)
  command("PEXPIRE", keys[M.SESSION], states.BULK_KEPT_MS)
  command("PEXPIRE", keys[M.REFUSALS], states.BULK_KEPT_MS)
  command("HDEL", keys[M.SESSION], "runner", "until", "hand")
  command("HSET", keys[M.SESSION], "done", session.done)
  M.list(keys, session)
end

return M
