-- Hand a running task back: the next claim need not wait for the lease, and the attempt is not counted against it.
-- KEYS  1 record                              ARGV  1 nonce
-- Reply {"released"} {"fenced"}
local found = redis.call('HMGET', KEYS[1], 'owner', 'status')
if found[1] ~= ARGV[1] or found[2] ~= 'running' then
  return { 'fenced' }
end
redis.call('HSET', KEYS[1], 'status', 'pending', 'owner', '', 'lease_until', '0', 'reason', 'worker_lost',
  'updated_at', whole(now_ms()))
redis.call('HDEL', KEYS[1], 'last_error')
redis.call('HINCRBY', KEYS[1], 'spent', -1)
return { 'released' }
