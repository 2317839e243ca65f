-- Counts one message, and one answer under way, against subjects: against all of them or none.
-- Messages go by GCRA: a subject's `next` is when its whole quota is there again; each message moves it on by one interval,
-- and it may never be further ahead than the quota's worth of them. Tokens are what record_usage.lua has counted today: what
-- answers under way will take is not known.
-- KEYS[i]  root of a subject (keys.limited)
-- ARGV[1]  msgpack: {answer or '' for a message alone, how long it lasts at the most (ms),
--          {{interval (microseconds), quota of messages, most answers, tokens a day or 0}, one for each subject}}
-- returns  msgpack: {'ok', {{whole quota is there again in (microseconds), whether the answer is new}, one each}}
--          | {'spent', i, microseconds until the next day}            the i-th subject's tokens of today are used up
--          | {'sent', i, microseconds until a message may be sent}    its messages are used up
--          | {'busy', i, now (ms), {answer, latest end (ms), ...}}    it has as many answers under way as it may
local answer, lasts_ms, limits = unpack(cmsgpack.unpack(ARGV[1]))
local us = now_us()
local ms = math.floor(us / 1000)
local ahead, new = {}, {}
for i, root in ipairs(KEYS) do
  local interval, quota, _, tokens = unpack(limits[i])
  if tokens > 0 and (tonumber(redis.call('HGET', used_key(root, us), 'budget')) or 0) >= tokens then
    return cmsgpack.pack({ 'spent', i, DAY_US - us % DAY_US })
  end
  local owed = math.max(0, (tonumber(redis.call('GET', root .. ':next')) or 0) - us)
  if owed > interval * quota then
    -- The clock was set back, or the limit was changed: nobody waits for longer than one window for that.
    owed = interval * quota
    redis.call('SET', root .. ':next', int(us + owed), 'PX', int(math.ceil(owed / 1000)))
  end
  ahead[i] = owed + interval
  if ahead[i] > interval * quota then
    return cmsgpack.pack({ 'sent', i, ahead[i] - interval * quota })
  end
end
if answer ~= '' then
  for i, root in ipairs(KEYS) do
    local answers = root .. ':answers'
    redis.call('ZREMRANGEBYSCORE', answers, '-inf', int(ms))
    new[i] = redis.call('ZSCORE', answers, answer) == false
    if new[i] and redis.call('ZCARD', answers) >= limits[i][3] then
      return cmsgpack.pack({ 'busy', i, ms, redis.call('ZRANGE', answers, 0, -1, 'WITHSCORES') })
    end
  end
end
local stands = {}
for i, root in ipairs(KEYS) do
  redis.call('SET', root .. ':next', int(us + ahead[i]), 'PX', int(math.ceil(ahead[i] / 1000)))
  if answer ~= '' then
    local answers = root .. ':answers'
    redis.call('ZADD', answers, int(ms + lasts_ms), answer)
    redis.call('PEXPIREAT', answers, redis.call('ZRANGE', answers, -1, -1, 'WITHSCORES')[2])
  end
  stands[i] = { ahead[i], new[i] and 1 or 0 }
end
return cmsgpack.pack({ 'ok', stands })
