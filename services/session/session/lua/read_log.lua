-- What a reader at a position needs: the events after it, or a snapshot; read in one step, so that both fit together.
-- KEYS[1]  root
-- ARGV[1]  epoch known, or ''    ARGV[2]  offset known    ARGV[3]  messages in a snapshot    ARGV[4]  events at the most
-- ARGV[5]  bytes of events at the most, one event always    ARGV[6]  acting user or ''    ARGV[7]  weakest role
-- returns  msgpack: false (no such chat) | 'denied'
--          | {'events', epoch, offset reached, {Event...}, text of the answer under way at that offset or ''}
--          | {'snapshot', epoch, offset, first sequence, {Message or false, content or false, ...}, answer's sequence or 0,
--          text, Message of the answer under way if it is ephemeral, or ''}
local root = KEYS[1]
if redis.call('EXISTS', root) == 0 then
  return cmsgpack.pack(false)
end
if not may(root, ARGV[6], ARGV[7]) then
  return cmsgpack.pack('denied')
end
local head, epoch = open_log(root, server_history())
local after = tonumber(ARGV[2])
if ARGV[1] == epoch and after <= head then
  local found = redis.call('XRANGE', root .. ':log', int(after + 1) .. '-0', '+', 'COUNT', ARGV[4])
  if after == head or (#found > 0 and found[1][1] == int(after + 1) .. '-0') then
    local blobs, size = {}, 0
    for i, entry in ipairs(found) do
      size = size + #entry[2][2]
      if size > tonumber(ARGV[5]) and i > 1 then
        break
      end
      blobs[i] = entry[2][2]
    end
    local text = after + #blobs == head and redis.call('GET', root .. ':text') or ''
    return cmsgpack.pack({ 'events', epoch, after + #blobs, blobs, text })
  end
end
local chat = redis.call('HMGET', root, 'count', 'answer', 'turn')
local last, answer = tonumber(chat[1]), tonumber(chat[2] or '0')
local first = math.max(1, last - tonumber(ARGV[3]) + 1)
if answer > 0 then
  -- Lua can't unpack more than some thousands: an answer with that many messages behind it is left to its deltas.
  first = math.max(math.min(first, answer), last - 2000)
end
local fields = {}
for sequence = first, last do
  fields[#fields + 1] = int(sequence)
  fields[#fields + 1] = 't' .. int(sequence)
end
local messages = #fields > 0 and redis.call('HMGET', root .. ':messages', unpack(fields)) or {}
local text = redis.call('GET', root .. ':text') or ''
local passing = chat[2] == '0' and redis.call('HGET', root .. ':turn:' .. chat[3], 'header') or ''
return cmsgpack.pack({ 'snapshot', epoch, head, first, messages, answer, text, passing })
