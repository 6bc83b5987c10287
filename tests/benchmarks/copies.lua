-- Copies of a workflow with two tags into a partition, each with a name, an account, a region and a time of insertion of
-- its own. They are found and shown as others are; they have no timers and callbacks, and nothing counts them.
--
-- Keys: the workflow's hash; the partition's listing and tag index; a hash of the partition without the end of its id.
-- Arguments: the copies' group in the listing, how many, how many milliseconds they may be older, how many names,
-- accounts and regions there are, and a seed.
local workflow, index, tags, beginning = unpack(KEYS)
local group, number, span, names, accounts, regions, seed = unpack(ARGV)
local LETTERS = "abcdefghijklmnopqrstuvwxyz234567"

math.randomseed(tonumber(seed))

local function letter()
  local at = math.random(#LETTERS)
  return LETTERS:sub(at, at)
end

local static = redis.call("HGET", workflow, ":s")
local opening, inserted, closing = static:match("^(%d+,%d+,%d+,)(%d+)(,.*,)")
for _ = 1, tonumber(number) do
  local key = beginning .. (("."):rep(16):gsub(".", letter))
  local time = tonumber(inserted) - math.random(0, tonumber(span))
  local place = ("|%011x|%s"):format(time, key:match("[^:]*$"))
  local account = "account=" .. math.random(tonumber(accounts))
  local region = "region=" .. math.random(tonumber(regions))
  local name = "name" .. math.random(tonumber(names))
  redis.call("COPY", workflow, key)
  redis.call("HSET", key, ":tags", account .. "," .. region, ":s", opening .. ("%.0f"):format(time) .. closing .. name)
  redis.call("ZADD", index, 0, group .. place)
  redis.call("ZADD", tags, 0, account .. place, 0, region .. place)
end
