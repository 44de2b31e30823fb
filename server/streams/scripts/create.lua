-- Create a task's record, once: the record is the idempotency entry of its own creation.
-- KEYS  1 record
-- ARGV  1 expiry while the task may run, ms  2 hash of the request  3 delay, ms  4 not before, ms since epoch; 0 for none
--       then the record's values
-- Reply {"created", HGETALL} {"exists", HGETALL} {"conflict"}
local record = KEYS[1]
local body = redis.call('HGET', record, 'body')
if body then
  if body ~= ARGV[2] then
    return { 'conflict' }
  end
  touch(record)
  return { 'exists', redis.call('HGETALL', record) }
end
local moment = now_ms()
local now = whole(moment)
-- By Redis' clock, as whoever promotes and claims will look at it.
local not_before = math.max(moment + tonumber(ARGV[3]), tonumber(ARGV[4]))
redis.call('HSET', record, 'body', ARGV[2], 'status', 'pending', 'reason', 'started', 'attempt', '0', 'spent', '0',
  'chain', '[]', 'generation', '0', 'owner', '', 'lease_until', '0', 'created_at', now, 'updated_at', now,
  unpack(ARGV, 5))
if not_before > moment then
  redis.call('HSET', record, 'not_before', whole(not_before))
end
redis.call('PEXPIRE', record, whole(not_before - moment + tonumber(ARGV[1])))
return { 'created', redis.call('HGETALL', record) }
