-- callback: moves one callback of the outbox on: claims it, settles the claim, or sends it again.
--
-- Keys: the partition's, then the workflow's (keyslots).
-- Arguments: the publishing verb, "1" when sent before, what to do, the callback's number, a token, and
--   "claim"      the lease in milliseconds; the token is made for this claim
--   "delivered"  nothing; the token is that of the claim
--   "failed"     a random number in [0,1) for the jitter, and what failed
--   "resend"     the client's note; the token is this call's id
-- Reply: {"claimed", record, static}; {"other"}: of other semantics, left where it is; {"none"}: there is
--   nothing to claim, and the outbox says so now; {"settled"}; {"resent", record, static};
--   or {"rejected", reason, stamp, message}.
-- Writes: the callback's record, the outbox, statistics, the header when the number of dead ones
--   changes, evidence. Publishes nothing.
--
-- A claim ends by its acknowledgement, or by the next claim once its lease has passed: then it counts
-- as a failure. What an outdated claim reports counts only if its handler did its work.

local function claim(call_, flow, item, lease_ms)
  if flow.h and flow.h.semantics ~= states.VERSION then
    return { "other" }
  end
  local c = flow.h and outbox.read(flow, item.number)
  if not c then
    outbox.drop(call_, flow, item.number)
    return { "none" }
  end
  local claimed = c.status == "l" and c.token == item.call
  if not claimed then
    if c.due == "" or tonumber(c.due) > tonumber(flow.since) then
      outbox.place(call_, flow, c)
      return { "none" }
    end
    if c.status == "l" then
      outbox.failed(call_, flow, item, c, 0, "never acknowledged")
      if c.status == "x" then
        return { "none" }
      end
    end
    c.attempts, c.token = call.number(c.attempts + 1), item.call
    outbox.move(call_, flow, c, "l", call.number(flow.since + lease_ms))
  end
  return { "claimed", outbox.text(c), flow.static }
end

-- The callback that a claim is settled of; nil when there is none any more.
local function claimed_one(flow, item)
  return flow.h and flow.h.semantics == states.VERSION and outbox.read(flow, item.number) or nil
end

local function stale(call_, flow, item)
  return evidence.reject(call_, flow, item, "stale_lease", "the claim is not the callback's current one")
end

local function delivered(call_, flow, item)
  local c = claimed_one(flow, item)
  if not c then
    return { "settled" }
  end
  if c.token == "" then
    return stale(call_, flow, item) -- sent again since, and not claimed yet
  end
  if c.status ~= "d" then
    c.token = item.call
    outbox.delivered(call_, flow, c)
  elseif c.token ~= item.call then
    evidence.duplicate(call_, flow, item, "duplicate_delivery")
  end
  return { "settled" }
end

local function failed(call_, flow, item, jitter, why)
  local c = claimed_one(flow, item)
  if c and c.token ~= item.call then
    return stale(call_, flow, item)
  end
  if c and c.status == "l" then
    local delay = backoff.delay_ms("", tonumber(c.attempts), tonumber(jitter))
    outbox.failed(call_, flow, item, c, delay, why)
  end
  return { "settled" }
end

-- Why a callback cannot be sent again: a reason and a message; nil when it can.
local function refusal(flow, c)
  if not flow.h then
    return "workflow_not_found", "there is no workflow " .. flow.id
  end
  if flow.h.semantics ~= states.VERSION then
    return "unsupported_semantics", "the workflow follows semantics version " .. flow.h.semantics
  end
  if not c then
    return "invalid_argument", "the workflow has no such callback"
  end
  if c.status == "l" or (c.status == "p" and c.attempts ~= "0") then
    return "illegal_transition", "the callback is neither dead nor delivered, and comes again by itself"
  end
  return nil
end

local function review(flow, text)
  if flow.h.review ~= text then
    flow.h.review = text
    flow.marked = true
  end
end

local function resend(call_, flow, item, again)
  local c = flow.h and outbox.read(flow, item.number)
  if again then
    local before = evidence.refused_before(call_, flow, item)
    if before then
      return before
    end
    if c and evidence.accepted_before(flow, item) then
      return { "resent", outbox.text(c), flow.static }
    end
  end
  local reason, message = refusal(flow, c)
  if reason then
    if flow.h and flow.h.semantics == states.VERSION then
      review(flow, "1")
    end
    return evidence.reject(call_, flow, item, reason, message)
  end
  if c.status == "p" then
    evidence.duplicate(call_, flow, item, "duplicate_resend")
  else
    evidence.accept(call_, flow, item, "accepted", "", "callback " .. c.number .. " is sent again")
    c.attempts, c.token = "0", ""
    outbox.move(call_, flow, c, "p", flow.since)
    review(flow, "")
  end
  return { "resent", outbox.text(c), flow.static }
end

return function(keys, args)
  local call_ = call.open(keys)
  local flow, what = call.flow(call_, 1, {}), args[3]
  local item = {
    action = what == "resend" and "resend_callback" or "dispatch_callbacks", scope = "callback", step = "",
    number = args[4], call = args[5], note = what == "resend" and args[6] or "{}",
  }
  local reply
  if what == "claim" then
    reply = claim(call_, flow, item, tonumber(args[6]))
  elseif what == "delivered" then
    reply = delivered(call_, flow, item)
  elseif what == "failed" then
    reply = failed(call_, flow, item, args[6], args[7])
  else
    reply = resend(call_, flow, item, args[2] == "1")
  end
  flush.commit(call_, args[1])
  return reply
end
