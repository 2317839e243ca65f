-- Deletes a user's provider key. Its version is remembered: the next one is higher.
-- KEYS[1]  root of the user's keys    KEYS[2]  the partition's key holders
-- ARGV[1]  provider    ARGV[2]  user id
-- returns  1, or 0: there was none
local records = KEYS[1] .. ':records'
local deleted = redis.call('HDEL', records, ARGV[1])
if redis.call('EXISTS', records) == 0 then
  redis.call('SREM', KEYS[2], ARGV[2])
end
return deleted
