-- Deletes a chat with everything in it, and tells its readers. A worker at it finds its lease lost.
-- KEYS[1]  root
-- ARGV[1]  PUBLISH or SPUBLISH    ARGV[2]  channel    ARGV[3]  ChatDeleted as Event
-- ARGV[4]  acting user or ''    ARGV[5]  weakest role
-- returns  msgpack: 'denied' | 'done', also when there is no such chat
local root = KEYS[1]
if redis.call('EXISTS', root) == 0 then
  return cmsgpack.pack('done')
end
if not may(root, ARGV[4], ARGV[5]) then
  return cmsgpack.pack('denied')
end
local turns = redis.call('LRANGE', root .. ':queue', 0, -1)
local current = redis.call('HGET', root, 'turn')
if current then
  turns[#turns + 1] = current
end
append(root, server_history(), { ARGV[3] }, current or '')
for _, turn in ipairs(turns) do
  close_turn(root, turn, 'cancelled')
  redis.call('DEL', root .. ':turn:' .. turn)
end
for _, suffix in ipairs({ '', ':log', ':text', ':messages', ':ids', ':asked', ':people', ':queue', ':passed' }) do
  redis.call('DEL', root .. suffix)
end
notify(ARGV[1], ARGV[2])
return cmsgpack.pack('done')
