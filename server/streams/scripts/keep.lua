-- Keep the unique key of a task that has not ended from expiring, and write it back where Redis lost it.
-- KEYS  1 holder
-- ARGV  1 task id  2 hash of the request that created it  3 a new token  4 expiry, ms
-- Reply {"kept"} {"restored"} {"other"}
local task = redis.call('HGET', KEYS[1], 'task')
if task and task ~= ARGV[1] then
  return { 'other' }
end
if not task then
  redis.call('HSET', KEYS[1], 'task', ARGV[1], 'body', ARGV[2], 'token', ARGV[3], 'rerun_of', '')
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return { task and 'kept' or 'restored' }
