-- Hand a task back whose attempt failed: the next claim waits until its time has come, and says why.
-- KEYS  1 record                              Rings the bell, without contents.
-- ARGV  1 nonce  2 delay, ms  3 how the attempt failed  4 the code of that  5 expiry while the task may run, ms  6 bell
-- Reply {"postponed", not before, ms} {"cancelled"} {"fenced"} {"missing"}
local record, nonce = KEYS[1], ARGV[1]
local found = redis.call('HMGET', record, 'status', 'owner', 'cancel', 'handed_back_by', 'not_before', 'attempt')
local status = found[1]
if not status then
  return { 'missing' }
end
-- The same again, because the reply was lost.
if status == 'pending' and found[4] == nonce then
  return { 'postponed', found[5] }
end
if status ~= 'running' or found[2] ~= nonce then
  return { 'fenced' }
end
if found[3] then
  return { 'cancelled' }
end
local now = now_ms()
local not_before = whole(now + tonumber(ARGV[2]))
note_error(record, found[6], ARGV[3], ARGV[4], now)
redis.call('HSET', record, 'status', 'pending', 'owner', '', 'lease_until', '0', 'reason', 'retry', 'last_error', ARGV[3],
  'not_before', not_before, 'handed_back_by', nonce, 'updated_at', whole(now))
redis.call('HDEL', record, 'progress')
redis.call('PEXPIRE', record, whole(tonumber(ARGV[2]) + tonumber(ARGV[5])))
nudge(ARGV[6]) -- readers are told of the pause
return { 'postponed', not_before }
