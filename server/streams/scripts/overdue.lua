-- Give away a task whose attempt hangs: its lease ends now, and whoever judges it next says why instead of "lost".
-- KEYS  1 record
-- ARGV  1 nonce  2 how the attempt failed  3 "1" if another attempt may not mend it
-- Reply {"overdue"} {"absent"} {"ended"} {"fenced"}
local record = KEYS[1]
local found = redis.call('HMGET', record, 'owner', 'status')
if not found[2] then
  return { 'absent' }
end
if ENDED[found[2]] then
  return { 'ended' }
end
if found[1] ~= ARGV[1] or found[2] ~= 'running' then
  return { 'fenced' }
end
-- Without an owner, so that the attempt can neither renew nor write should it wake up.
redis.call('HSET', record, 'owner', '', 'lease_until', now_text(), 'overdue', ARGV[2], 'overdue_ends', ARGV[3])
return { 'overdue' }
