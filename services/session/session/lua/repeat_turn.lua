-- What an earlier call of BeginTurn with an idempotency key did. Nothing is appended.
-- KEYS[1]  root
-- ARGV[1]  idempotency key    ARGV[2]  acting user or ''    ARGV[3]  weakest role
-- returns  msgpack: false (none did, or it is not for this user to know) | {'again', ...} as begin_turn.lua
local root = KEYS[1]
if not may(root, ARGV[2], ARGV[3]) then
  return cmsgpack.pack(false)
end
return cmsgpack.pack(first_call(root, ARGV[1], redis.call('HGET', root, 'made')) or false)
