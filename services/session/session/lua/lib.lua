-- The ground that every script stands on; put in front of each of them when it is loaded.
--
-- A chat's keys are made from its root, KEYS[i] = {tag}c:<chat id>/, and share its hash tag, so that they lie in its slot:
--   <root>              hash    meta      Chat as protobuf, without what stands in the other fields
--                               dialect, owner, archived (1 or absent), ttl (seconds, absent: for good)
--                               epoch, head         the log's position; kept as long as the chat
--                               count, active       messages in the history; last activity, microseconds
--                               input_tokens, output_tokens, estimated, cost_nano_usd
--                                                   sums over its answers (1 or absent, the third), if any
--                               fence               raised at each claim and each stop
--                               turn, lease, seq    the turn that is due or runs; its lease and last append applied
--                               opened              the append by which this lease began or restarted the answer, or 0
--                               answer              sequence of the turn's answer in the history, once it started; 0:
--                                                   it is in none, and its Message in the turn's `header`
--   <root>:log          stream  id <offset>-0, field e: the Event as protobuf
--   <root>:text         string  the text of the answer under way
--   <root>:messages     hash    <sequence>: Message as protobuf; t<sequence>: its content, where it came or changed later;
--                               a<sequence>: the sequence of its last answer that ended with text
--   <root>:ids          hash    message id -> sequence
--   <root>:people       hash    user id -> role, one digit, and Participant as protobuf behind it
--   <root>:queue        list    ids of the turns that wait, oldest first
--   <root>:turn:<id>    hash    state, message (its id), sequence, answer (its id), limit_ms, deadline_ms, settings,
--                               claims; of an ephemeral turn that has not ended: body (its Message), header (its
--                               answer's); of one that its worker ended: ended_lease, ended_seq, its last append, so that
--                               it can be repeated; expires a day after its end
--   <root>:passed       hash    id, text: the last ephemeral answer that ended, for readers amidst it; goes with the log
--   <root>:key:<key>    string  what an idempotency key's first call returned (msgpack); expires after a day
-- and two of its partition, with members <chat id>|<turn id>:
--   {tag}due            zset    when the turn may be claimed: it became due, or its lease expires (ms)
--   {tag}deadlines      zset    when the turn fails (ms)
-- Times are Redis' own. Protobuf is only ever put together, never read: fields behind one another merge.

local DAY_S = 86400
local DAY_US = DAY_S * 1000000
-- Readers that were away for up to an hour, or this many events, go on from where they were; others get a snapshot.
local LOG_TTL_S = 3600
local LOG_LENGTH = 4096

local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function now_ms()
  return math.floor(now_us() / 1000)
end

local function int(number)
  return string.format('%.0f', number)
end

-- What a server's history is told apart by: a failover or a restart makes another replication id.
local function server_history()
  return string.sub(string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)'), 1, 12)
end

-- A user's usage of the day that a time is in (usage.py).
local function used_key(root, us)
  return root .. ':used:' .. int(math.floor(us / DAY_US))
end

local function tag_of(root)
  return string.match(root, '^({[^}]*})')
end

local function chat_of(root)
  return string.match(root, '^{[^}]*}c:(.*)/$')
end

local function varint(number)
  local bytes = {}
  repeat
    local low = number % 128
    number = (number - low) / 128
    bytes[#bytes + 1] = string.char(number > 0 and low + 128 or low)
  until number == 0
  return table.concat(bytes)
end

-- One protobuf field: length-delimited, or a varint.
local function field(number, content)
  return varint(number * 8 + 2) .. varint(#content) .. content
end

local function varint_field(number, value)
  return varint(number * 8) .. varint(value)
end

-- Numbers of Event's fields, of Message.sequence, and of text_length in the events that end a turn.
local CREATED, STARTED, FAILED, CANCELLED, DELETED = 1, 2, 5, 6, 12
local SEQUENCE, TEXT_LENGTH = 3, 2

-- The chat's head and epoch. The epoch begins with the server's history, so that what a failover may have lost can't be
-- taken for the whole, and ends in how often it changed: a slot of a cluster may come back to where it was.
-- `known`, `head`: as stored, where they have been read already.
local function open_log(root, history, known, head)
  if not known then
    known, head = unpack(redis.call('HMGET', root, 'epoch', 'head'))
  end
  if string.sub(known, 1, 12) == history then
    return tonumber(head), known
  end
  local epoch = history .. string.format('%x', (tonumber(string.sub(known, 13), 16) or 0) + 1)
  redis.call('DEL', root .. ':log')
  redis.call('HSET', root, 'epoch', epoch, 'head', 0)
  return 0, epoch
end

-- Roles as ParticipantRole numbers them: a smaller one may more, and all of them more than a stranger.
local OWNER, STRANGER = 1, 9

local function role_in(person)
  return person and tonumber(string.sub(person, 1, 1)) or STRANGER
end

local function role_of(root, user)
  if redis.call('HGET', root, 'owner') == user then
    return OWNER
  end
  return role_in(redis.call('HGET', root .. ':people', user))
end

-- Whether the acting user's role is `weakest` or more; '': nobody acts, and the calling service answers for it.
local function may(root, user, weakest)
  return user == '' or role_of(root, user) <= tonumber(weakest)
end

local batches = {}

-- Adds events to a chat's log and to what `notify` will send. `ended`: the id of the turn that they end, or false.
-- `known`, `head`: as open_log's. Returns the first one's offset, and the epoch; the last two leave the head to be stored
-- by whoever gave them.
local function append(root, history, blobs, ended, known, stored_head)
  local head, epoch = open_log(root, history, known, stored_head)
  local log = root .. ':log'
  for i = 1, #blobs do
    redis.call('XADD', log, int(head + i) .. '-0', 'e', blobs[i])
  end
  if not known then
    redis.call('HSET', root, 'head', int(head + #blobs))
  end
  batches[#batches + 1] = { chat_of(root), epoch, head + 1, blobs, ended or '' }
  return head + 1, epoch
end

-- Tells all readers, in one message. `publish`: PUBLISH, or SPUBLISH on a cluster.
local function notify(publish, channel)
  if #batches > 0 then
    redis.call(publish, channel, cmsgpack.pack({ 'events', batches }))
  end
end

-- Nothing runs: the log may be cut, and goes when nobody has written to the chat for a while.
local function settle_log(root)
  redis.call('XTRIM', root .. ':log', 'MAXLEN', '~', LOG_LENGTH)
  redis.call('EXPIRE', root .. ':log', LOG_TTL_S)
end

-- A chat with a lifetime gets all of it again.
local function touch(root)
  local ttl = redis.call('HGET', root, 'ttl')
  if ttl then
    for _, suffix in ipairs({ '', ':messages', ':ids', ':people', ':queue', ':text' }) do
      redis.call('EXPIRE', root .. suffix, ttl)
    end
  end
end

local function member(root, turn)
  return chat_of(root) .. '|' .. turn
end

-- A turn whose chat has gone, or has gone on: nobody is to look for it again. Turns that wait are not in these.
local function forget(root, turn)
  redis.call('ZREM', tag_of(root) .. 'due', member(root, turn))
  redis.call('ZREM', tag_of(root) .. 'deadlines', member(root, turn))
end

local function make_due(root, turn)
  local key = root .. ':turn:' .. turn
  local now = now_ms()
  local deadline = now + tonumber(redis.call('HGET', key, 'limit_ms'))
  redis.call('HSET', key, 'state', 'due', 'deadline_ms', int(deadline))
  redis.call('HSET', root, 'turn', turn, 'seq', 0)
  redis.call('HDEL', root, 'lease', 'opened', 'answer')
  redis.call('ZADD', tag_of(root) .. 'due', int(now), member(root, turn))
  redis.call('ZADD', tag_of(root) .. 'deadlines', int(deadline), member(root, turn))
  redis.call('PERSIST', root .. ':log')
end

local function close_turn(root, turn, state)
  local key = root .. ':turn:' .. turn
  redis.call('HSET', key, 'state', state)
  redis.call('HDEL', key, 'body', 'header')
  redis.call('EXPIRE', key, DAY_S)
  forget(root, turn)
end

-- Ends the turn at the chat's head: keeps its text, completes the answer's stored message with `patch` (a Message), and
-- makes the next turn due. Returns the next turn's id, or false.
local function finish(root, turn, state, patch)
  local answer = redis.call('HGET', root, 'answer')
  local text = redis.call('GET', root .. ':text') or ''
  if answer == '0' then
    redis.call('HSET', root .. ':passed', 'id', redis.call('HGET', root .. ':turn:' .. turn, 'answer'), 'text', text)
    redis.call('EXPIRE', root .. ':passed', LOG_TTL_S)
  elseif answer then
    local header = redis.call('HGET', root .. ':messages', answer)
    redis.call('HSET', root .. ':messages', answer, header .. patch, 't' .. answer, text)
    -- A broken answer is no context, and takes no whole one's place.
    if text ~= '' and state ~= 'failed' then
      local asked = redis.call('HGET', root .. ':turn:' .. turn, 'sequence')
      redis.call('HSET', root .. ':messages', 'a' .. asked, answer)
    end
  end
  redis.call('DEL', root .. ':text')
  redis.call('HDEL', root, 'turn', 'lease', 'seq', 'opened', 'answer')
  redis.call('HSET', root, 'active', int(now_us()))
  close_turn(root, turn, state)
  touch(root)
  local following = redis.call('LPOP', root .. ':queue')
  if following then
    make_due(root, following)
  else
    settle_log(root)
  end
  return following
end

-- Gives the turn at the chat's head to whoever asks, if it is due or its lease ran out. Returns nil, or what a worker
-- needs: turn, fence, text, started, time left (ms), claims, answer id, settings, the chat's fields (CHAT), the first
-- sequence of the history that it goes on from, that history ({Message, content or false, its answer's sequence or false,
-- ...}), the answers that stand behind it ({sequence, Message, content, ...}), and an ephemeral turn's own message or ''.
local HISTORY = 250
-- What a Chat is made of, as stored.py names it too.
local CHAT = { 'meta', 'active', 'count', 'input_tokens', 'output_tokens', 'estimated', 'cost_nano_usd' }

local function claim(root, turn, lease, lease_ms)
  local current = redis.call('HGET', root, 'turn')
  if not current or (turn ~= '' and turn ~= current) then
    return nil
  end
  turn = current
  local now = now_ms()
  local score = redis.call('ZSCORE', tag_of(root) .. 'due', member(root, turn))
  if not score or tonumber(score) > now then
    return nil
  end
  local key = root .. ':turn:' .. turn
  local fence = redis.call('HINCRBY', root, 'fence', 1)
  redis.call('HSET', root, 'lease', lease, 'seq', 0, 'opened', 0)
  redis.call('ZADD', tag_of(root) .. 'due', int(now + lease_ms), member(root, turn))
  redis.call('HSET', key, 'state', 'running')
  local claims = redis.call('HINCRBY', key, 'claims', 1)
  local stored = redis.call('HMGET', key, 'sequence', 'answer', 'settings', 'deadline_ms', 'body')
  local chat = redis.call('HMGET', root, unpack(CHAT))
  local last = tonumber(stored[1])
  local first = math.max(1, last - HISTORY + 1)
  local fields = {}
  for sequence = first, last do
    fields[#fields + 1] = int(sequence)
    fields[#fields + 1] = 't' .. int(sequence)
    fields[#fields + 1] = 'a' .. int(sequence)
  end
  local messages = #fields > 0 and redis.call('HMGET', root .. ':messages', unpack(fields)) or {}
  -- Answers to what came before may stand behind the turn's own message: it waited for them, or they were asked for again.
  local behind = {}
  for i = 3, #messages, 3 do
    local answer = messages[i]
    if answer and tonumber(answer) > last then
      behind[#behind + 1] = tonumber(answer)
      behind[#behind + 1] = redis.call('HGET', root .. ':messages', answer)
      behind[#behind + 1] = redis.call('HGET', root .. ':messages', 't' .. answer)
    end
  end
  local text = redis.call('GET', root .. ':text') or ''
  return {
    turn, fence, text, redis.call('HEXISTS', root, 'answer'), tonumber(stored[4]) - now, claims,
    stored[2], stored[3], chat, first, messages, behind, stored[5] or '',
  }
end
