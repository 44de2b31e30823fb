-- Give a stream settings of its own, once: they hold until it is deleted or nobody has used it for long. A stream that was
-- deleted begins anew.
-- KEYS  1 log, 2 what is known of the stream      Touches: both.
-- ARGV  1 keep: "all" or "latest"  2 most events, 0 for what is usual  3 expiry of the log, ms, 0 for what is usual
--       4 the usual most events  5 the usual expiry, ms  6 how much longer than the log the settings live, ms
-- Reply {"created"} {"same"} {"differs", keep, most events, expiry}
local log, stream = KEYS[1], KEYS[2]
local own = redis.call('HMGET', stream, 'deleted', 'last_id', 'keep', 'max_events', 'ttl_ms')
local ttl = ARGV[3] ~= '0' and ARGV[3] or ARGV[5]
local lives = whole(tonumber(ttl) + tonumber(ARGV[6]))
if own[3] then
  if own[3] ~= ARGV[1] or own[4] ~= ARGV[2] or own[5] ~= ARGV[3] then
    return { 'differs', own[3], own[4], own[5] }
  end
  redis.call('PEXPIRE', stream, lives)
  return { 'same' }
end
redis.call('DEL', stream)
if own[1] and #halves(own[2]) <= 15 then -- else its ids are used up, and what is to come after them must not know them
  redis.call('HSET', stream, 'after', own[2])
end
redis.call('HSET', stream, 'keep', ARGV[1], 'max_events', ARGV[2], 'ttl_ms', ARGV[3], 'created_at', whole(now_ms()))
redis.call('PEXPIRE', stream, lives)
local last, fields = last_of(log)
if last then
  redis.call('HSET', stream, 'last_id', last)
  if fields and field(fields, 'z') then
    redis.call('HSET', stream, 'end_type', field(fields, 'e') or '', 'end', field(fields, 'd') or '', 'ended_at',
      field(fields, 't') or '')
  end
  -- @retain
  retain(log, ARGV[1], ARGV[2], ttl, fields and field(fields, 'z'), ARGV[4])
end
return { 'created' }
