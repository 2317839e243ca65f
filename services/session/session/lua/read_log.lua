-- What a reader at a position needs: the events after it, or a snapshot; read in one step, so that both fit together.
-- KEYS[1]  root
-- ARGV[1]  epoch known, or ''    ARGV[2]  offset known    ARGV[3]  messages in a snapshot    ARGV[4]  events at the most
-- ARGV[5]  bytes at the most, one event or message always    ARGV[6]  acting user or ''    ARGV[7]  weakest role
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
local after, most, most_bytes = tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])
-- An event may have a megabyte, and how long one is is not known before it is read.
local AT_ONCE = 16

-- The events after `after` that fit together; nil: they are gone.
local function events()
  local blobs, size = {}, 0
  while after + #blobs < head and #blobs < most do
    local from = int(after + #blobs + 1) .. '-0'
    local found = redis.call('XRANGE', root .. ':log', from, '+', 'COUNT', math.min(AT_ONCE, most - #blobs))
    if #found == 0 or found[1][1] ~= from then
      return nil
    end
    for _, entry in ipairs(found) do
      size = size + #entry[2][2]
      if size > most_bytes and #blobs > 0 then
        return blobs
      end
      blobs[#blobs + 1] = entry[2][2]
    end
  end
  return blobs
end

if ARGV[1] == epoch and after <= head then
  local blobs = events()
  if blobs then
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
local from, messages, text = page(root, first, last, true, answer, most_bytes)
local passing = ''
if chat[2] == '0' then
  passing = redis.call('HGET', root .. ':turn:' .. chat[3], 'header') or ''
  text = redis.call('GET', root .. ':text') or ''
end
return cmsgpack.pack({ 'snapshot', epoch, head, from, messages, answer, text, passing })
