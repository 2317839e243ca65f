-- Appends a message and makes the turn that answers it due, in one step; claims it at once for a worker at hand. Or
-- makes a turn that answers a message of the history once more.
-- KEYS[1]  root
-- ARGV[1]  PUBLISH or SPUBLISH    ARGV[2]  channel
-- ARGV[3]  msgpack: {MessageCreated as Event, Message, message id, idempotency key or '', turn id or '', answer id,
--          settings, limit ms, turns that may wait, lease id or '', lease ms, whether to leave no history, sequence of the
--          message to answer once more (0: there is none such) or false, who asks, messages and bytes of a conversation at
--          the most, acting user or '', weakest role}
--          Answering once more takes that message's id, and neither Event nor Message.
-- returns  msgpack: false (no such chat) | 'denied' | {'archived'} | {'full'} | {'taken'} (the message id)
--          | {'unknown'} (the message to answer once more)
--          | {'again', what the first call returned: {message, sequence, turn, answer, epoch, offset, made}, state of the
--          turn}
--          | {'ok', sequence or 0, epoch, offset, state, claim or false, user ids to list the chat for}
local event, message, id, key, turn, answer, settings, limit_ms, most, lease, lease_ms, ephemeral, again, asked_by,
  most_messages, most_bytes, user, weakest = unpack(cmsgpack.unpack(ARGV[3]))
local root = KEYS[1]
local known_epoch, head, archived, busy, made, ttl, bytes =
  unpack(redis.call('HMGET', root, 'epoch', 'head', 'archived', 'turn', 'made', 'ttl', 'bytes'))
if not known_epoch then
  return cmsgpack.pack(false)
end
if not may(root, user, weakest) then
  return cmsgpack.pack('denied')
end
local repeated = first_call(root, key, made)
if repeated then
  return cmsgpack.pack(repeated)
end
if archived then
  return cmsgpack.pack({ 'archived' })
end
local taken = redis.call('HGET', root .. ':ids', id)
if again and taken ~= int(again) then
  return cmsgpack.pack({ 'unknown' })
elseif taken and not again then
  return cmsgpack.pack({ 'taken' })
end
if turn ~= '' and busy and redis.call('LLEN', root .. ':queue') >= most then
  return cmsgpack.pack({ 'full' })
end

local sequence = again or 0
-- How much of the history the answer goes on from.
local known
if again then
  known = int(again)
elseif ephemeral then
  known = redis.call('HGET', root, 'count')
else
  sequence = redis.call('HINCRBY', root, 'count', 1)
  known = int(sequence)
  local numbered = varint_field(SEQUENCE, sequence)
  redis.call('HSET', root .. ':messages', known, message .. numbered)
  redis.call('HSET', root .. ':ids', id, known)
  redis.call('RPUSH', root .. ':asked', known)
  event = event .. field(CREATED, field(1, numbered))
end
local offset, epoch
if again then
  offset, epoch = open_log(root, server_history(), known_epoch, head)
else
  offset, epoch = append(root, server_history(), { event }, false, known_epoch, head)
  redis.call('HSET', root, 'active', int(now_us()), 'head', int(offset))
  if bytes and not ephemeral then
    redis.call('HSET', root, 'bytes', int(bytes + #message))
  end
end
local state, claimed = '', nil
if turn ~= '' then
  redis.call('HSET', root .. ':turn:' .. turn, 'message', id, 'sequence', known, 'answer', answer,
    'limit_ms', limit_ms, 'settings', settings, 'asked_by', asked_by, 'claims', 0)
  if ephemeral then
    redis.call('HSET', root .. ':turn:' .. turn, 'body', message)
  end
  if busy then
    state = 'queued'
    redis.call('HSET', root .. ':turn:' .. turn, 'state', state)
    redis.call('RPUSH', root .. ':queue', turn)
  else
    state = 'due'
    make_due(root, turn)
    if lease ~= '' then
      claimed = claim(root, turn, lease, lease_ms, most_messages, most_bytes)
      state = 'running'
    end
  end
elseif not busy then
  settle_log(root)
end
if key ~= '' then
  redis.call('SET', root .. ':key:' .. key, cmsgpack.pack({ id, sequence, turn, answer, epoch, offset, made }), 'EX', DAY_S)
end
touch(root)
notify(ARGV[1], ARGV[2])
local listed = not again and not ttl and redis.call('HKEYS', root .. ':people') or {}
return cmsgpack.pack({ 'ok', sequence, epoch, offset, state, claimed or false, listed })
