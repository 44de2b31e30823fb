-- Renew a lease, look for the cancel flag, and see whether the log still holds what the writer wrote.
-- KEYS  1 log, 2 record                      Touches: both.
-- ARGV  1 nonce  2 lease, ms  3 expiry of the log, ms  4 of the record  5 the last id the writer has seen stored
-- Reply {"renewed", "1" if cancel is asked for, "1" if the log is intact} {"absent"} {"ended"} {"fenced"}
local log, record = KEYS[1], KEYS[2]
local found = redis.call('HMGET', record, 'owner', 'status', 'cancel')
if not found[2] then
  return { 'absent' }
end
if ENDED[found[2]] then
  return { 'ended' }
end
-- Conditional, or a worker that woke up late would take the task back from its successor.
if found[1] ~= ARGV[1] or found[2] ~= 'running' then
  return { 'fenced' }
end
redis.call('HSET', record, 'lease_until', whole(now_ms() + tonumber(ARGV[2])))
redis.call('PEXPIRE', log, ARGV[3])
redis.call('PEXPIRE', record, ARGV[4])
local last = last_of(log)
return { 'renewed', found[3] and '1' or '0', (last and not id_less(last, ARGV[5])) and '1' or '0' }
