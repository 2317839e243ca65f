-- The text of an answer that has begun: under way or ended, in the history or, of an ephemeral turn, in none.
-- KEYS[1]  root
-- ARGV[1]  the answer's message id
-- returns  msgpack: false (not known) | {Message or '', text so far}
local root, id = KEYS[1], ARGV[1]
local at = redis.call('HMGET', root, 'turn', 'answer')
if at[2] and redis.call('HGET', root .. ':turn:' .. at[1], 'answer') == id then
  return cmsgpack.pack({ '', redis.call('GET', root .. ':text') or '' })
end
local sequence = redis.call('HGET', root .. ':ids', id)
if sequence then
  local stored = redis.call('HMGET', root .. ':messages', sequence, 't' .. sequence)
  return cmsgpack.pack({ stored[1], stored[2] or '' })
end
local passed = redis.call('HMGET', root .. ':passed', 'id', 'text')
return cmsgpack.pack(passed[1] == id and { '', passed[2] } or false)
