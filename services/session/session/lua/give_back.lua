-- Takes back what acquire counted, of which nothing came.
-- KEYS[i]  root of a subject (keys.limited)
-- ARGV[1]  msgpack: {{answer or '', interval (microseconds)}, one for each subject}
local us = now_us()
for i, given in ipairs(cmsgpack.unpack(ARGV[1])) do
  local answer, interval = unpack(given)
  if answer ~= '' then
    redis.call('ZREM', KEYS[i] .. ':answers', answer)
  end
  local ahead = (tonumber(redis.call('GET', KEYS[i] .. ':next')) or 0) - us - interval
  if ahead > 0 then
    redis.call('SET', KEYS[i] .. ':next', int(us + ahead), 'PX', int(math.ceil(ahead / 1000)))
  else
    redis.call('DEL', KEYS[i] .. ':next')
  end
end
return 1
