-- Remove an ended task and leave a marker, so that its readers are told "over" and not "unknown".
-- KEYS  1 log, 2 record                      ARGV  1 bell  2 how long the marker stays, ms
-- Reply {"missing"} {"running"} {"deleted"}
local log, record = KEYS[1], KEYS[2]
local found = redis.call('HMGET', record, 'status', 'last_id', 'generation', 'body')
if not found[1] or found[1] == 'deleted' then
  return { 'missing' }
end
if not ENDED[found[1]] then
  return { 'running' }
end
redis.call('DEL', record, log)
redis.call('HSET', record, 'status', 'deleted', 'last_id', found[2] or NEVER_USED, 'generation', found[3] or '0',
  'body', found[4] or '')
redis.call('PEXPIRE', record, ARGV[2])
nudge(ARGV[1])
return { 'deleted' }
