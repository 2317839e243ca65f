-- Changes one field of a chat and says so in its log, in one step.
-- KEYS[1]  root
-- ARGV[1]  PUBLISH or SPUBLISH    ARGV[2]  channel
-- ARGV[3]  msgpack: {key's suffix, field, value or false to remove it, archived: true, false or nil to leave it,
--          message sequence whose answer must not be under way or 0, what to put behind that message, Event, acting user
--          or '', weakest role, revision that its settings must have or 0}
-- returns  msgpack: false (no such chat) | 'denied' | 'under way' (the answer is) | 'conflict' (another revision) | 'done'
local suffix, name, value, archived, sequence, patch, event, user, weakest, expected =
  unpack(cmsgpack.unpack(ARGV[3]), 1, 10)
local root = KEYS[1]
if redis.call('EXISTS', root) == 0 then
  return cmsgpack.pack(false)
end

-- Nobody changes the owner; everybody else may leave, and whoever governs does so over weaker roles than their own.
local function may_place()
  local known = role_of(root, name)
  if known == OWNER then
    return false
  end
  if user == '' or (user == name and not value) then
    return true
  end
  local own = role_of(root, user)
  return own <= weakest and own < known and own < role_in(value)
end

local allowed
if suffix == ':people' then
  allowed = may_place()
else
  allowed = may(root, user, weakest)
end
if not allowed then
  return cmsgpack.pack('denied')
end
if suffix == '' then
  local revision = tonumber(redis.call('HGET', root, 'revision')) or 1
  -- Over 2^63 it is negative here.
  if expected ~= 0 and expected ~= revision then
    return cmsgpack.pack('conflict')
  end
  redis.call('HSET', root, 'revision', int(revision + 1))
  event = event .. field(UPDATED, field(1, varint_field(REVISION, revision + 1)))
end
if sequence > 0 then
  if redis.call('HGET', root, 'answer') == int(sequence) then
    return cmsgpack.pack('under way')
  end
  redis.call('HSET', root .. ':messages', int(sequence), redis.call('HGET', root .. ':messages', int(sequence)) .. patch)
  grow(root, #patch + #value)
end
if value then
  redis.call('HSET', root .. suffix, name, value)
elseif redis.call('HDEL', root .. suffix, name) == 0 then
  return cmsgpack.pack('done')
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
return cmsgpack.pack('done')
