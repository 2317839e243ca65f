-- A user's usage on some days.
-- KEYS[1]  root of the user (keys.limited)
-- ARGV[1], ARGV[2]  the first day and the last, since 1970, or '' for today    ARGV[3]  days to read at the most
-- returns  msgpack: {the first day, the last, {{day, {field, value, ...}}, one for each that was read and has usage}}
local today = math.floor(now_us() / DAY_US)
local first, last = tonumber(ARGV[1]) or today, tonumber(ARGV[2]) or today
local days = {}
for day = first, math.min(last, first + ARGV[3] - 1) do
  local fields = redis.call('HGETALL', used_key(KEYS[1], day * DAY_US))
  if #fields > 0 then
    days[#days + 1] = { day, fields }
  end
end
return cmsgpack.pack({ first, last, days })
