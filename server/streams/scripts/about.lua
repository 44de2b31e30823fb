-- What there is to say about a stream.
-- KEYS  1 log, 2 what is known of the stream, of a task's stream its record      Touches: nothing.
-- Reply {first id or "", last id or "", "1" if it has ended, events in the log, bytes it occupies or -1,
--        ms until it expires or -1, "1" if it was deleted, keep or "", most events or "", expiry in ms or "",
--        "1" if there is such a record}
local log, stream = KEYS[1], KEYS[2]
local own = redis.call('HMGET', stream, 'deleted', 'last_id', 'keep', 'max_events', 'ttl_ms', 'status', 'end_type')
local last, fields, info = last_of(log)
local first = info and field(info, 'first-entry')
local size = last and redis.pcall('MEMORY', 'USAGE', log) -- a sample of its nodes; an ACL may forbid it
local status = own[6]
local is_closed = status and ENDED[status] or not status and (fields and field(fields, 'z') or not last and own[7])
return { first and first[1] or '', last or own[2] or '', is_closed and '1' or '0', info and field(info, 'length') or 0,
  type(size) == 'number' and size or -1, redis.call('PTTL', log), (own[1] or status == 'deleted') and '1' or '0',
  own[3] or '', own[4] or '', own[5] or '', (own[3] or status) and '1' or '0' }
