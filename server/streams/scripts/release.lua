-- Hand a running task back: the next claim need not wait for the lease, and the attempt is not counted against it.
-- A cancelled task is not handed back, for it would wait for a claim that need not come: its writer ends it.
-- KEYS  1 record                              ARGV  1 nonce
-- Reply {"released"} {"cancelled"} {"fenced"} {"missing"}
local record, nonce = KEYS[1], ARGV[1]
local found = redis.call('HMGET', record, 'status', 'owner', 'cancel', 'handed_back_by')
local status = found[1]
if not status then
  return { 'missing' }
end
-- The same again, because the reply was lost.
if status == 'pending' and found[4] == nonce then
  return { 'released' }
end
if status ~= 'running' or found[2] ~= nonce then
  return { 'fenced' }
end
if found[3] then
  return { 'cancelled' }
end
redis.call('HSET', record, 'status', 'pending', 'owner', '', 'lease_until', '0', 'reason', 'worker_lost',
  'handed_back_by', nonce, 'updated_at', whole(now_ms()))
redis.call('HDEL', record, 'last_error')
redis.call('HINCRBY', record, 'spent', -1)
return { 'released' }
