-- Extends leases.
-- KEYS[i]  root of the i-th lease's chat
-- ARGV[1]  lease, ms    ARGV[2]  msgpack: one {turn, lease, fence} for each key
-- returns  msgpack: the indices, from 1, of the leases that are lost
local lost = {}
local expires = int(now_ms() + tonumber(ARGV[1]))
for i, lease in ipairs(cmsgpack.unpack(ARGV[2])) do
  local root = KEYS[i]
  local at = redis.call('HMGET', root, 'turn', 'lease', 'fence')
  if at[1] == lease[1] and at[2] == lease[2] and tonumber(at[3]) == lease[3] then
    redis.call('ZADD', tag_of(root) .. 'due', expires, member(root, lease[1]))
  else
    lost[#lost + 1] = i
  end
end
return cmsgpack.pack(lost)
