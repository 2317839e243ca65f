-- Adds what answers have used to today of their users, each record once.
-- KEYS[i]  root of the i-th record's user (keys.limited)
-- ARGV[1]  msgpack: one {digest of the record's id, {field, what to add as text, ...}} for each key
-- ARGV[2]  days that a day is kept for
local us = now_us()
local hour = math.floor(us / 3600000000)
for i, record in ipairs(cmsgpack.unpack(ARGV[1])) do
  local id, sums = unpack(record)
  local recorded = tag_of(KEYS[i]) .. 'recorded:'
  if redis.call('SISMEMBER', recorded .. int(hour - 1), id) == 0 and redis.call('SADD', recorded .. int(hour), id) == 1 then
    redis.call('EXPIREAT', recorded .. int(hour), int((hour + 2) * 3600))
    local used = used_key(KEYS[i], us)
    if redis.call('HINCRBY', used, 'answers', 1) == 1 then
      redis.call('EXPIREAT', used, int((math.floor(us / DAY_US) + 1 + ARGV[2]) * DAY_S))
    end
    for field = 1, #sums, 2 do
      -- A sum that would overflow stays as it is, and does not break this off in the middle.
      redis.pcall('HINCRBY', used, sums[field], sums[field + 1])
    end
  end
end
return 1
