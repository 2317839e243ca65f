-- What time has brought: turns that may be claimed, and turns whose deadline has passed.
-- KEYS[i]  {tag}due and {tag}deadlines of a partition, in turn
-- ARGV[1]  how many of each at the most
-- returns  msgpack: {members that are due, members that are late}
local now = int(now_ms())
local due, late = {}, {}
local most = tonumber(ARGV[1])
for i = 1, #KEYS, 2 do
  if #due < most then
    for _, found in ipairs(redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', now, 'LIMIT', 0, most - #due)) do
      due[#due + 1] = found
    end
  end
  if #late < most then
    for _, found in ipairs(redis.call('ZRANGEBYSCORE', KEYS[i + 1], '-inf', now, 'LIMIT', 0, most - #late)) do
      late[#late + 1] = found
    end
  end
end
return cmsgpack.pack({ due, late })
