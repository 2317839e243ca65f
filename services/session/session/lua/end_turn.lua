-- Stops a turn, or fails it for its deadline, wherever it stands; what was said so far is kept.
-- KEYS[1]  root
-- ARGV[1]  PUBLISH or SPUBLISH    ARGV[2]  channel
-- ARGV[3]  msgpack: {turn id or '' for the one that runs or is due, 'cancelled' or 'failed', the event's fields beside
--          message_id and text_length, patch of the answer's Message, whether only if its deadline has passed,
--          whether to end those that wait too, acting user or '', weakest role}
-- returns  msgpack: false (no such chat) | 'denied' | {ids of the turns ended, turn made due or false}
local turn, state, rest, patch, only_late, all, user, weakest = unpack(cmsgpack.unpack(ARGV[3]))
local root = KEYS[1]
if redis.call('EXISTS', root) == 0 then
  forget(root, turn)
  return cmsgpack.pack(false)
end
if not may(root, user, weakest) then
  return cmsgpack.pack('denied')
end
local history = server_history()

local function say(id, length)
  local answer = redis.call('HGET', root .. ':turn:' .. id, 'answer')
  local number = state == 'failed' and FAILED or CANCELLED
  append(root, history, { field(number, field(1, answer) .. varint_field(TEXT_LENGTH, length) .. rest) }, id)
end

local ended, following = {}, false
local waiting = redis.call('LRANGE', root .. ':queue', 0, -1)
for _, id in ipairs(waiting) do
  if all or id == turn then
    redis.call('LREM', root .. ':queue', 1, id)
    say(id, 0)
    close_turn(root, id, state)
    ended[#ended + 1] = id
  end
end
local current = redis.call('HGET', root, 'turn')
if only_late and turn ~= current then
  forget(root, turn)
end
if current and (all or turn == '' or turn == current) then
  local deadline = redis.call('ZSCORE', tag_of(root) .. 'deadlines', member(root, current))
  if not only_late or (deadline and tonumber(deadline) <= now_ms()) then
    redis.call('HINCRBY', root, 'fence', 1)
    say(current, redis.call('STRLEN', root .. ':text'))
    following = finish(root, current, state, patch)
    ended[#ended + 1] = current
  end
end
notify(ARGV[1], ARGV[2])
return cmsgpack.pack({ ended, following })
