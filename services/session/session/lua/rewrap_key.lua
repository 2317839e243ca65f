-- Replaces a user's encrypted provider key by the same under another master key, if it is still the one that was read.
-- KEYS[1]  root of the user's keys
-- ARGV[1]  provider    ARGV[2]  record as read    ARGV[3]  record
-- returns  1, or 0: it has been replaced or deleted
local records = KEYS[1] .. ':records'
if redis.call('HGET', records, ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('HSET', records, ARGV[1], ARGV[3])
return 1
