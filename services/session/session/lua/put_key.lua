-- Stores a user's encrypted provider key, if nobody stored another since its version was chosen.
-- KEYS[1]  root of the user's keys    KEYS[2]  the partition's key holders
-- ARGV[1]  provider    ARGV[2]  version before, '0' when there was none    ARGV[3]  version    ARGV[4]  record
-- ARGV[5]  user id
-- returns  1, or 0: the version before is another
local versions = KEYS[1] .. ':versions'
if (redis.call('HGET', versions, ARGV[1]) or '0') ~= ARGV[2] then
  return 0
end
redis.call('HSET', versions, ARGV[1], ARGV[3])
redis.call('HSET', KEYS[1] .. ':records', ARGV[1], ARGV[4])
redis.call('SADD', KEYS[2], ARGV[5])
return 1
