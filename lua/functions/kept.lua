-- kept: signals that some topics of a partition keep, by topic and age.
--
-- Keys: the partition's (keyslots), then each topic's hash and sorted set (topic.lua).
-- Arguments: how many signals at most; a signal's name or "" for any; "=" and the correlation key (quoted)
--   or "" for any; a status or "" for any; then for each topic the number of the first signal to look at,
--   "0" for the oldest.
-- Reply: {signals; the place of the topic to go on with, 0 at the end; the number to go on from there}. A
--   signal is {place of its topic, name|key, what is told of it}, the last as in signal. Reads only.
local FIRST_TOPIC = 5
-- How many signals a call looks at, and how many bytes of them it takes before it comes to an end.
local LOOKED_AT, BYTES = 400, 524288

local function read_ask(args)
  return { most = tonumber(args[1]), name = args[2], key = args[3], status = args[4], looks = LOOKED_AT, bytes = BYTES }
end

local function is_asked_for(ask, topic_text)
  local name, key = match(topic_text, "^([^|]*)|(.*)$")
  return (ask.name == "" or ask.name == name) and (ask.key == "" or sub(ask.key, 2) == key)
end

local function take(t, signal, status, place, found, ask)
  local answer = topic.answer(t, signal, status)
  found[#found + 1] = { place, t.topic, answer }
  ask.bytes = ask.bytes - #(answer[8] or "") - #signal.dedupe
end

-- Goes through a topic's signals from a number on. Returns the number to go on from, or nil at the end.
local function look(t, place, from, found, ask)
  local usual = topic.verdict(t)
  local handed = t.handed and t.handed.number
  for number = max(from, t.first), t.last do
    if #found == ask.most or ask.looks <= 0 or ask.bytes <= 0 then
      return transaction.number(number)
    end
    ask.looks = ask.looks - 1
    local signal = topic.signal(t, number)
    local status = number == handed and "recorded" or usual
    if signal and signal.status == "k" and (ask.status == "" or ask.status == status) then
      take(t, signal, status, place, found, ask)
    end
  end
  return nil
end

return function(keys, args)
  local tx, found, ask = transaction.open(keys), {}, read_ask(args)
  for place = 1, #args - FIRST_TOPIC + 1 do
    local hash = keys[keyslots.FIRST_WORKFLOW + 2 * (place - 1)]
    local t = transaction.is_type(hash, "hash") and topic.open(tx, nil, nil, place)
    if t and t.topic and is_asked_for(ask, t.topic) then
      local number = look(t, place, tonumber(args[FIRST_TOPIC + place - 1]), found, ask)
      if number then
        return { found, place, number }
      end
    end
  end
  return { found, 0, "0" }
end
