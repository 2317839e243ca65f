-- Removes a replica's report, whole: what lies here without the other has no meaning.
-- KEYS[1]  root of the reports
-- ARGV[1]  replica id
redis.call('ZREM', KEYS[1] .. ':at', ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1], ARGV[1] .. '/brief')
return 1
