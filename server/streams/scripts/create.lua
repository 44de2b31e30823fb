-- Create a task's record, once: the record is the idempotency entry of its own creation.
-- KEYS  1 record                              ARGV  1 expiry, ms  2 hash of the request, then the record's values
-- Reply {"created", HGETALL} {"exists", HGETALL} {"conflict"}
local record = KEYS[1]
local body = redis.call('HGET', record, 'body')
if body then
  if body ~= ARGV[2] then
    return { 'conflict' }
  end
  return { 'exists', redis.call('HGETALL', record) }
end
local now = whole(now_ms())
redis.call('HSET', record, 'body', ARGV[2], 'status', 'pending', 'reason', 'started', 'attempt', '0', 'spent', '0',
  'chain', '[]', 'generation', '0', 'owner', '', 'lease_until', '0', 'created_at', now, 'updated_at', now,
  unpack(ARGV, 3))
redis.call('PEXPIRE', record, ARGV[1])
return { 'created', redis.call('HGETALL', record) }
