-- Put in front of every script on a cluster: a slot that is being moved key by key (CLUSTER SETSLOT, MIGRATE) has a part of
-- a chat here and a part there, and a script would fail halfway at the first key that is not here, with its writes done.
-- Reading a key that is nowhere fails then, before anything else has happened. TRYAGAIN: nothing was done.
local nowhere = redis.pcall('EXISTS', string.match(KEYS[1], '^{[^}]*}') .. 'nowhere')
if type(nowhere) == 'table' and nowhere.err then
  return redis.error_reply('TRYAGAIN the slot is being moved')
end
