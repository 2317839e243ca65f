-- A page of the history, of which nothing is fetched that is not returned.
-- KEYS[1]  root
-- ARGV[1]  limit    ARGV[2]  offset    ARGV[3]  1: counted from the newest
-- ARGV[4]  bytes at the most, one message always    ARGV[5]  acting user or ''    ARGV[6]  weakest role
-- returns  msgpack: false (no such chat) | 'denied' | {total, first sequence, {Message or false, content or false, ...},
--          answer's sequence or 0, text of the answer under way if it is among them, or ''}
local root = KEYS[1]
if redis.call('EXISTS', root) == 0 then
  return cmsgpack.pack(false)
end
if not may(root, ARGV[5], ARGV[6]) then
  return cmsgpack.pack('denied')
end
local chat = redis.call('HMGET', root, 'count', 'answer')
local total, answer = tonumber(chat[1]), tonumber(chat[2] or '0')
local limit, offset, from_end = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local first, last = offset + 1, math.min(total, offset + limit)
if from_end then
  last = total - offset
  first = math.max(1, last - limit + 1)
end
local from, messages, text = page(root, first, last, from_end, answer, tonumber(ARGV[4]))
return cmsgpack.pack({ total, from, messages, answer, text })
