-- Stores a replica's report, and forgets those of replicas that have gone silent.
-- KEYS[1]  root of the reports
-- ARGV[1]  replica id    ARGV[2]  Replica as protobuf    ARGV[3]  the same in brief, or '' if it is that already
-- ARGV[4]  silence after which one is gone, ms
local now, times = now_ms(), KEYS[1] .. ':at'
local silent = redis.call('ZRANGEBYSCORE', times, '-inf', int(now - ARGV[4]))
for _, replica in ipairs(silent) do
  redis.call('ZREM', times, replica)
  redis.call('HDEL', KEYS[1], replica, replica .. '/brief')
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1] .. '/brief')
else
  redis.call('HSET', KEYS[1], ARGV[1] .. '/brief', ARGV[3])
end
redis.call('ZADD', times, int(now), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', times, ARGV[4])
return 1
