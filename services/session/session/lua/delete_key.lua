-- Deletes a user's provider key. Its version is remembered: the next one is higher.
-- KEYS[1]  root of the user's keys    KEYS[2]  the partition's key holders
-- ARGV[1]  provider    ARGV[2]  user id
-- returns  1, or 0: there was none
local deleted = redis.call('HDEL', KEYS[1], ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('SREM', KEYS[2], ARGV[2])
end
return deleted
