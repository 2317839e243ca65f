-- Gives a chat with a lifetime all of it again.
-- KEYS[1]  root
-- returns  1, or 0: no such chat
touch(KEYS[1])
return redis.call('EXISTS', KEYS[1])
