-- Stores a replica's report, and forgets those of replicas that have gone silent.
-- KEYS[1]  root of the reports
-- ARGV[1]  replica id    ARGV[2]  Replica as protobuf    ARGV[3]  silence after which one is gone, ms
local now, times = now_ms(), KEYS[1] .. ':at'
local silent = redis.call('ZRANGEBYSCORE', times, '-inf', int(now - ARGV[3]))
for _, replica in ipairs(silent) do
  redis.call('ZREM', times, replica)
  redis.call('HDEL', KEYS[1], replica)
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', times, int(now), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', times, ARGV[3])
return 1
