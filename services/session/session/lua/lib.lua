-- The ground that every script stands on; put in front of each of them when it is loaded.
--
-- A chat's keys are made from its root, KEYS[i] = {tag}c:<chat id>/, and share its hash tag, so that they lie in its slot:
--   <root>              hash    meta      Chat as protobuf, without what stands in the other fields
--                               dialect, owner, archived (1 or absent), ttl (seconds, absent: for good)
--                               epoch, head         the log's position; kept as long as the chat
--                               made                when the chat was made (microseconds): tells it from an earlier one
--                                                   of its id
--                               revision            raised by each change of the chat's settings; absent: 1
--                               count, active       messages in the history; last activity, microseconds
--                               bytes               of all its messages, as they are stored, or more, without an answer
--                                                   under way: a chat that is small is not measured; absent: not known
--                                                   (the chat is older than this)
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
--                               a<sequence>: the sequence of its last answer that was completed or stopped with text
--   <root>:ids          hash    message id -> sequence
--   <root>:asked        list    sequences of the messages that are no answers, oldest first; a chat that was made before
--                               there was this list has its later ones alone
--   <root>:people       hash    user id -> role, one digit, and Participant as protobuf behind it
--   <root>:queue        list    ids of the turns that wait, oldest first
--   <root>:turn:<id>    hash    state, message (its id), sequence, answer (its id), limit_ms, deadline_ms, claims; of one
--                               that has not ended: settings, asked_by, and if it is ephemeral body (its Message) and
--                               header (its answer's); of one that its worker ended: ended_lease, ended_seq, its last
--                               append, so that it can be repeated; expires a day after its end
--   <root>:passed       hash    id, text: the last ephemeral answer that ended, for readers amidst it; goes with the log
--   <root>:key:<key>    string  what an idempotency key's first call returned, and `made` (msgpack); expires after a day
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

-- Numbers of Event's fields, of Message.sequence, of text_length in the events that end a turn, and of Chat.revision.
local CREATED, STARTED, FAILED, CANCELLED, UPDATED, DELETED = 1, 2, 5, 6, 11, 12
local SEQUENCE, TEXT_LENGTH, REVISION = 3, 2, 13

-- The chat's head and epoch. The epoch begins with the server's history, so that what a failover may have lost can't be
-- taken for the whole, and ends in a number that no other of its id had: the time at which the chat was made, and one more
-- for each change since. A slot of a cluster may come back to where it was, and a chat be made again.
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
    for _, suffix in ipairs({ '', ':messages', ':ids', ':asked', ':people', ':queue', ':text' }) do
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
  redis.call('HDEL', key, 'settings', 'asked_by', 'body', 'header')
  redis.call('EXPIRE', key, DAY_S)
  forget(root, turn)
end

-- More is stored of a chat's messages. One that is older than the count has none.
local function grow(root, more)
  local bytes = redis.call('HGET', root, 'bytes')
  if bytes then
    redis.call('HSET', root, 'bytes', int(bytes + more))
  end
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
    local header = redis.call('HGET', root .. ':messages', answer) .. patch
    redis.call('HSET', root .. ':messages', answer, header, 't' .. answer, text)
    grow(root, #header + #text)
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

-- Whether all of a chat's messages fit together, as far as is known. `bytes`: as stored, or false.
local function is_small(bytes, most_bytes)
  return bytes and tonumber(bytes) <= most_bytes
end

-- The messages of a run of sequences that fit into `most_bytes` together, taken from the last one on or from the first one
-- on; one always. `answer`: sequence of the answer under way, whose content is its text so far, or 0. Nothing is fetched
-- that is not returned: the first sequence, {Message or false, content or false, ...}, and that text or ''.
local function page(root, first, last, from_last, answer, most_bytes)
  if first > last then
    return first, {}, ''
  end
  local messages, text = root .. ':messages', ''
  local small = is_small(redis.call('HGET', root, 'bytes'), most_bytes - redis.call('STRLEN', root .. ':text'))
  local from, to, step = first, last, 1
  if from_last then
    from, to, step = last, first, -1
  end
  local size, reached = 0, small and to or from
  for sequence = from, small and from - step or to, step do
    size = size + redis.call('HSTRLEN', messages, int(sequence)) + redis.call('HSTRLEN', messages, 't' .. int(sequence))
    if sequence == answer then
      size = size + redis.call('STRLEN', root .. ':text')
    end
    if size > most_bytes and sequence ~= from then
      break
    end
    reached = sequence
  end
  first, last = math.min(from, reached), math.max(from, reached)
  local fields = {}
  for sequence = first, last do
    fields[#fields + 1] = int(sequence)
    fields[#fields + 1] = 't' .. int(sequence)
  end
  if first <= answer and answer <= last then
    text = redis.call('GET', root .. ':text') or ''
  end
  return first, redis.call('HMGET', messages, unpack(fields)), text
end

-- What a turn goes on from: the messages up to the sequence `last`, newest first, each with its current answer in front of
-- it: {answer's Message or false, its content or false, Message, its content or false, ...}. At most `most` messages of
-- `most_bytes` together, with `passing`, an ephemeral turn's own message or ''; else the first is the turn's own, which is
-- there always, and without an answer: that is to come. `bytes`: the chat's, or false. Nothing is fetched that is not
-- returned.
local function conversation(root, last, passing, most, most_bytes, bytes)
  local messages, asked = root .. ':messages', root .. ':asked'
  local listed = redis.call('LRANGE', asked, -most, -1)
  if #listed > 0 and tonumber(listed[#listed]) > last then
    -- It waited, or it is answered again. How many of the list are not behind `last`:
    local low, high = 0, redis.call('LLEN', asked)
    while low < high do
      local middle = math.ceil((low + high) / 2)
      if tonumber(redis.call('LINDEX', asked, middle - 1)) <= last then
        low = middle
      else
        high = middle - 1
      end
    end
    listed = low > 0 and redis.call('LRANGE', asked, math.max(0, low - most), low - 1) or {}
  end
  local small = is_small(bytes, most_bytes - #passing)
  local sequences, answers = {}, {}
  for i = #listed, 1, -1 do
    sequences[#sequences + 1] = listed[i]
  end
  -- Before the first one that is listed nothing is, unless the chat is older than the list: then answers are among them.
  for sequence = (tonumber(listed[1]) or last + 1) - 1, 1, -1 do
    if #sequences >= most then
      break
    end
    sequences[#sequences + 1] = int(sequence)
  end
  if #sequences == 0 then
    return {}
  end
  -- The turn's own has none that counts.
  local answered = passing == '' and 2 or 1
  for i = answered, #sequences do
    answers[#answers + 1] = 'a' .. sequences[i]
  end
  answers = #answers > 0 and redis.call('HMGET', messages, unpack(answers)) or answers
  local fields = {}
  local size, taken = #passing, passing ~= '' and 1 or 0
  for i, sequence in ipairs(sequences) do
    local answer = answers[i - answered + 1]
    local more = answer and 2 or 1
    if not small then
      size = size + redis.call('HSTRLEN', messages, sequence) + redis.call('HSTRLEN', messages, 't' .. sequence)
      if answer then
        size = size + redis.call('HSTRLEN', messages, answer) + redis.call('HSTRLEN', messages, 't' .. answer)
      end
    end
    if taken > 0 and (size > most_bytes or taken + more > most) then
      break
    end
    taken = taken + more
    -- No message has an empty name.
    fields[#fields + 1] = answer or ''
    fields[#fields + 1] = answer and 't' .. answer or ''
    fields[#fields + 1] = sequence
    fields[#fields + 1] = 't' .. sequence
  end
  return #fields > 0 and redis.call('HMGET', messages, unpack(fields)) or {}
end

-- What a Chat is made of, as stored.py names it too.
local CHAT = {
  'meta', 'active', 'count', 'input_tokens', 'output_tokens', 'estimated', 'cost_nano_usd', 'revision',
}

-- Gives the turn at the chat's head to whoever asks, if it is due or its lease ran out. `most`, `most_bytes`: of its
-- conversation. Returns nil, or what a worker needs: turn, fence, text, started, time left (ms), claims, answer id,
-- settings, the chat's fields (CHAT), the conversation as above, an ephemeral turn's own message or '', and who asked.
local function claim(root, turn, lease, lease_ms, most, most_bytes)
  local chat = redis.call('HMGET', root, 'turn', 'answer', 'bytes', unpack(CHAT))
  local current, answer, bytes = unpack(chat, 1, 3)
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
  local stored = redis.call('HMGET', key, 'sequence', 'answer', 'settings', 'deadline_ms', 'body', 'asked_by')
  local body = stored[5] or ''
  local before = conversation(root, tonumber(stored[1]), body, most, most_bytes, bytes)
  local text = answer and redis.call('GET', root .. ':text') or ''
  return {
    turn, fence, text, answer and 1 or 0, tonumber(stored[4]) - now, claims,
    stored[2], stored[3], { unpack(chat, 4, 3 + #CHAT) }, before, body, stored[6] or '',
  }
end

-- What an idempotency key's first call returned, and where its turn stands; nil: there was none. `made`: the chat's, or
-- false; a chat may have been deleted and made again under its id.
local function first_call(root, key, made)
  local known = key ~= '' and redis.call('GET', root .. ':key:' .. key)
  local first = known and cmsgpack.unpack(known)
  if first and (first[7] or false) == made then
    return { 'again', first, redis.call('HGET', root .. ':turn:' .. first[3], 'state') }
  end
end
