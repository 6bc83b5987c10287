-- The standard functions, as upvalues: a global is looked up twice for each use, and in a function's
-- environment through a metatable. They do not exist yet when Redis 7.0 loads a library, so the first
-- call of any function resolves them.
local match, gmatch, find, sub, byte, format, concat, floor, max, min, command
local next, pairs, tonumber, unpack, setmetatable

local function resolving(callback)
  return function(keys, args)
    if not match then
      match, gmatch, find, sub = string.match, string.gmatch, string.find, string.sub
      byte, format, concat = string.byte, string.format, table.concat
      floor, max, min, command = math.floor, math.max, math.min, redis.call
      next, pairs, tonumber, unpack, setmetatable = _G.next, _G.pairs, _G.tonumber, _G.unpack, _G.setmetatable
    end
    return callback(keys, args)
  end
end
