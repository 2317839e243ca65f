-- Claims a chat's turn if it is due or its lease ran out.
-- KEYS[1]  root
-- ARGV[1]  turn id, or '' for whichever is due    ARGV[2]  lease id    ARGV[3]  lease, ms
-- returns  msgpack: false (no such chat) | {} (nothing to claim) | what lib's claim gives
if redis.call('HGET', KEYS[1], 'turn') ~= ARGV[1] then
  forget(KEYS[1], ARGV[1])
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return cmsgpack.pack(false)
end
return cmsgpack.pack(claim(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])) or {})
