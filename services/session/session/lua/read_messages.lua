-- A page of the history.
-- KEYS[1]  root
-- ARGV[1]  limit    ARGV[2]  offset    ARGV[3]  1: counted from the newest
-- ARGV[4]  acting user or ''    ARGV[5]  weakest role
-- returns  msgpack: false (no such chat) | 'denied' | {total, first sequence, {Message or false, content or false, ...},
--          answer's sequence or 0, text of the answer under way}
local root = KEYS[1]
if redis.call('EXISTS', root) == 0 then
  return cmsgpack.pack(false)
end
if not may(root, ARGV[4], ARGV[5]) then
  return cmsgpack.pack('denied')
end
local chat = redis.call('HMGET', root, 'count', 'answer')
local total = tonumber(chat[1])
local limit, offset = tonumber(ARGV[1]), tonumber(ARGV[2])
local first, last = offset + 1, math.min(total, offset + limit)
if ARGV[3] == '1' then
  last = total - offset
  first = math.max(1, last - limit + 1)
end
local fields = {}
for sequence = first, last do
  fields[#fields + 1] = int(sequence)
  fields[#fields + 1] = 't' .. int(sequence)
end
local messages = #fields > 0 and redis.call('HMGET', root .. ':messages', unpack(fields)) or {}
local text = redis.call('GET', root .. ':text') or ''
return cmsgpack.pack({ total, first, messages, tonumber(chat[2] or '0'), text })
