-- Claims a chat's turn if it is due or its lease ran out.
-- KEYS[1]  root
-- ARGV[1]  turn id, or '' for whichever is due    ARGV[2]  lease id    ARGV[3]  lease, ms
-- ARGV[4]  messages of its conversation at the most    ARGV[5]  bytes of them at the most
-- returns  msgpack: false (no such chat) | {} (nothing to claim) | what lib's claim gives
local current = redis.call('HGET', KEYS[1], 'turn')
if current ~= ARGV[1] then
  forget(KEYS[1], ARGV[1])
end
if not current and redis.call('EXISTS', KEYS[1]) == 0 then
  return cmsgpack.pack(false)
end
local claimed = claim(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]))
return cmsgpack.pack(claimed or {})
