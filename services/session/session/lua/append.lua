-- Appends events to the logs of running turns: many chats in one call, each chat all or nothing.
-- KEYS[i]  root of the i-th append's chat
-- ARGV[1]  PUBLISH or SPUBLISH    ARGV[2]  channel
-- ARGV[3]  msgpack: one {turn, lease, fence, sequence, opened, events} for each key. opened: the sequence of the lease's
--          append with its last 's' or 'r', this one's too; 0: none, it goes on from an earlier lease's. An event is
--          {'d', Event, text, text offset} | {'s', Event, Message, message id} | {'r', Event}
--          | {'completed' or 'failed', Event, patch of the answer's Message, text length, input tokens, output tokens,
--          whether they are estimated, cost (billionths of a dollar)}; the last two stand last
-- returns  msgpack: for each key {'ok', epoch, offset of its last event, turn made due or false, sequence that the
--          answer's message got here or false, whether it was applied now}
--          | {'lost'} | {'text', stored length} | {'unopened'}: the append named by `opened`, or what is restarted, is gone
--          | {'refused'}: the answer has begun already, or has not, or is to have another id
local history = server_history()
local items = cmsgpack.unpack(ARGV[3])
local results = {}

-- The answer's length after these events, or nil and the length that is stored if they don't go on from it.
local function fits(root, events)
  local stored = redis.call('STRLEN', root .. ':text')
  local length = stored
  for _, event in ipairs(events) do
    if event[1] == 'd' then
      if event[4] ~= length then
        return nil, stored
      end
      length = length + #event[3]
    elseif event[1] == 'r' then
      length = 0
    elseif event[1] ~= 's' and event[4] ~= length then
      return nil, stored
    end
  end
  return length
end

for i, root in ipairs(KEYS) do
  local turn, lease, fence, sequence, opened, events = unpack(items[i])
  local at = redis.call('HMGET', root, 'turn', 'lease', 'fence', 'seq', 'opened', 'answer', 'head', 'epoch')
  local seen = at[2] == lease and at[4]
  if at[2] ~= lease and at[7] then
    local ended = redis.call('HMGET', root .. ':turn:' .. turn, 'ended_lease', 'ended_seq')
    seen = ended[1] == lease and ended[2]
  end
  if seen and sequence <= tonumber(seen) then
    results[i] = { 'ok', at[8], tonumber(at[7]), false, false, false }
  elseif at[1] ~= turn or at[2] ~= lease or tonumber(at[3]) ~= fence then
    results[i] = { 'lost' }
  elseif opened > 0 and opened ~= sequence and tonumber(at[5]) ~= opened or events[1][1] == 'r' and not at[6] then
    results[i] = { 'unopened' }
  elseif events[1][1] == 's' and (at[6] or events[1][4] ~= redis.call('HGET', root .. ':turn:' .. turn, 'answer'))
    or opened == 0 and not at[6] and events[1][1] ~= 'failed' then
    results[i] = { 'refused' }
  else
    local length, stored = fits(root, events)
    if not length then
      results[i] = { 'text', stored }
    else
      local blobs, pieces, ended, numbered_as = {}, {}, nil, false
      for _, event in ipairs(events) do
        local kind, blob = event[1], event[2]
        if kind == 'd' then
          pieces[#pieces + 1] = event[3]
        elseif kind == 'r' then
          pieces = {}
          redis.call('DEL', root .. ':text')
        elseif kind == 's' and redis.call('HEXISTS', root .. ':turn:' .. turn, 'body') == 1 then
          redis.call('HSET', root, 'answer', 0)
          redis.call('HSET', root .. ':turn:' .. turn, 'header', event[3])
        elseif kind == 's' then
          local count = redis.call('HINCRBY', root, 'count', 1)
          numbered_as = count
          local numbered = varint_field(SEQUENCE, count)
          redis.call('HSET', root, 'answer', int(count))
          redis.call('HSET', root .. ':messages', int(count), event[3] .. numbered)
          redis.call('HSET', root .. ':ids', event[4], int(count))
          blob = blob .. field(STARTED, field(1, numbered))
        else
          ended = kind
        end
        blobs[#blobs + 1] = blob
      end
      if #pieces > 0 then
        redis.call('APPEND', root .. ':text', table.concat(pieces))
      end
      local first, epoch = append(root, history, blobs, false, at[8], at[7])
      local following = false
      redis.call('HSET', root, 'head', int(first + #blobs - 1), 'seq', sequence, 'opened', opened)
      if ended then
        local patch, _, input, output, estimated, cost = unpack(events[#events], 3, 8)
        following = finish(root, turn, ended, patch)
        if input > 0 or output > 0 or cost > 0 then
          redis.call('HINCRBY', root, 'input_tokens', int(input))
          redis.call('HINCRBY', root, 'output_tokens', int(output))
          redis.call('HINCRBY', root, 'cost_nano_usd', int(cost))
          if estimated then
            redis.call('HSET', root, 'estimated', 1)
          end
        end
        redis.call('HSET', root .. ':turn:' .. turn, 'ended_lease', lease, 'ended_seq', sequence)
      end
      results[i] = { 'ok', epoch, first + #blobs - 1, following, numbered_as, true }
    end
  end
end
notify(ARGV[1], ARGV[2])
return cmsgpack.pack(results)
