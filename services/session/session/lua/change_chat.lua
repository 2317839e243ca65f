-- Changes one field of a chat and says so in its log, in one step.
-- KEYS[1]  root
-- ARGV[1]  PUBLISH or SPUBLISH    ARGV[2]  channel
-- ARGV[3]  msgpack: {key's suffix, field, value or false to remove it, archived: true, false or nil to leave it,
--          message sequence whose answer must not be under way or 0, what to put behind that message, Event}
-- returns  1 done, 0 no such chat, -1 the answer is under way
local suffix, name, value, archived, sequence, patch, event = unpack(cmsgpack.unpack(ARGV[3]), 1, 7)
local root = KEYS[1]
if redis.call('EXISTS', root) == 0 then
  return 0
end
if sequence > 0 then
  if redis.call('HGET', root, 'answer') == int(sequence) then
    return -1
  end
  redis.call('HSET', root .. ':messages', int(sequence), redis.call('HGET', root .. ':messages', int(sequence)) .. patch)
end
if value then
  redis.call('HSET', root .. suffix, name, value)
else
  redis.call('HDEL', root .. suffix, name)
end
if archived == true then
  redis.call('HSET', root, 'archived', 1)
elseif archived == false then
  redis.call('HDEL', root, 'archived')
end
append(root, server_history(), { event }, false)
if not redis.call('HGET', root, 'turn') then
  settle_log(root)
end
touch(root)
notify(ARGV[1], ARGV[2])
return 1
