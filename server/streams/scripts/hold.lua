-- Take a unique key for a task, unless another has it or took it since the caller looked.
-- KEYS  1 holder
-- ARGV  1 task id  2 hash of the request that creates it  3 a new token  4 the token that may be replaced, "" for none
--       5 the terminal event that a re-run replaces, "" for a creation  6 expiry, ms
-- Reply {"taken"} {"held", task id, hash of its request, its token, the event its re-run replaces}
local holder = KEYS[1]
local found = redis.call('HMGET', holder, 'task', 'body', 'token', 'rerun_of')
if found[1] and found[3] ~= ARGV[4] then
  return { 'held', found[1], found[2], found[3], found[4] }
end
redis.call('HSET', holder, 'task', ARGV[1], 'body', ARGV[2], 'token', ARGV[3], 'rerun_of', ARGV[5])
redis.call('PEXPIRE', holder, ARGV[6])
return { 'taken' }
