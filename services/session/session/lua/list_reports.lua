-- The reports of replicas that have not gone silent.
-- KEYS[1]  root of the reports
-- ARGV[1]  silence after which one is gone, ms
-- returns  Replicas as protobuf
local live = redis.call('ZRANGEBYSCORE', KEYS[1] .. ':at', '(' .. int(now_ms() - ARGV[1]), '+inf')
if #live == 0 then
  return {}
end
return redis.call('HMGET', KEYS[1], unpack(live))
