-- Ends a dialect session, if the one that was found under the name is still the one there.
-- KEYS[1]  the session's key
-- ARGV[1]  the DialectSession that was found
-- returns  1 ended, 0 it is gone, or another's
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
