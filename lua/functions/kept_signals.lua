-- kept_signals: the kept signals of some topics of a partition, by topic and age.
--
-- Bound: 400 signals; replies of 512 KiB, and at most one signal over that.

-- How many signals a call looks at, and after how many bytes it ends.
local LOOKED_AT, BYTES = 400, 524288

local function is_asked_for(ask, topic_text)
  local name, key = match(topic_text, "^([^|]*)|(.*)$")
  return (not ask.name or ask.name == name) and (not ask.key or ask.key == key)
end

local function take(t, signal, status, place, found, ask)
  local answer = topic.answer(t, signal, status)
  found[#found + 1] = { place, t.topic, answer }
  ask.bytes = ask.bytes - #(answer[8] or "") - #signal.dedupe
end

-- Collects a topic's signals from a number on. Returns the number to go on from, or nil at the end.
local function look(t, place, from, found, ask)
  local usual = topic.verdict(t)
  local handed = t.handed and t.handed.number
  for number = max(from, t.first), t.last do
    if #found == ask.most or ask.looks <= 0 or ask.bytes <= 0 then
      return integer.text(number)
    end
    ask.looks = ask.looks - 1
    local signal = topic.signal(t, number)
    local status = number == handed and "recorded" or usual
    if signal and signal.status == "k" and (not ask.status or ask.status == status) then
      take(t, signal, status, place, found, ask)
    end
  end
  return nil
end

return function(keys, limit, signal, any_key, key, status, first)
  local tx, found = transaction.open(keys), {}
  local ask = {
    most = limit, name = signal, key = not any_key and key or nil, status = status, looks = LOOKED_AT, bytes = BYTES,
  }
  for place = 1, #first do
    local hash = keys[keyslots.FIRST_WORKFLOW + 2 * (place - 1)]
    local t = transaction.is_type(hash, "hash") and topic.open(tx, nil, nil, place)
    if t and t.topic and is_asked_for(ask, t.topic) then
      local number = look(t, place, first[place], found, ask)
      if number then
        return { found, place, number }
      end
    end
  end
  return { found, 0, 0 }
end
