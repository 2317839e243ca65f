-- Makes a chat, or returns the one that is there.
-- KEYS[1]  root
-- ARGV[1]  Chat as protobuf    ARGV[2]  dialect    ARGV[3]  owner    ARGV[4]  the owner as in :people
-- ARGV[5]  lifetime in seconds after its last use, or ''
-- returns  1 made, 0 it is there, -1 it is there and another's
local root = KEYS[1]
local known = redis.call('HMGET', root, 'dialect', 'owner')
if known[1] then
  touch(root)
  return known[1] == ARGV[2] and known[2] == ARGV[3] and 0 or -1
end
local now = now_us()
redis.call('HSET', root, 'meta', ARGV[1], 'dialect', ARGV[2], 'owner', ARGV[3], 'made', int(now),
  'epoch', server_history() .. string.format('%x', now), 'head', 0, 'count', 0, 'bytes', 0, 'fence', 0,
  'active', int(now))
redis.call('HSET', root .. ':people', ARGV[3], ARGV[4])
if ARGV[5] ~= '' then
  redis.call('HSET', root, 'ttl', ARGV[5])
  touch(root)
end
return 1
