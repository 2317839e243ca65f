-- The reports of replicas that have not gone silent: as many whole as fit, by the replicas' ids, the others in brief; those
-- that don't fit even so are left out. What a report lacks is passed over.
-- KEYS[1]  root of the reports
-- ARGV[1]  silence after which one is gone, ms    ARGV[2]  bytes at the most
-- returns  Replicas as protobuf
local root = KEYS[1]
local live = redis.call('ZRANGEBYSCORE', root .. ':at', '(' .. int(now_ms() - ARGV[1]), '+inf')
local room = tonumber(ARGV[2])
table.sort(live)
local kept = {}
for _, replica in ipairs(live) do
  local whole, brief = redis.call('HSTRLEN', root, replica), redis.call('HSTRLEN', root, replica .. '/brief')
  local least = brief > 0 and brief or whole
  if least > 0 and least <= room then
    room = room - least
    kept[#kept + 1] = { replica, whole - least }
  end
end
local found = {}
for i, one in ipairs(kept) do
  local name, more = unpack(one)
  if more <= room then
    room = room - more
  else
    name = name .. '/brief'
  end
  found[i] = redis.call('HGET', root, name)
end
return found
