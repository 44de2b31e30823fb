-- Delete a shared stream: its readers get an end at once, and a marker tells those who come later that it is over.
-- KEYS  1 log, 2 what is known of the stream      Touches: both, and rings the bell.
-- ARGV  1 bell  2 random 0-999  3 the last id the caller was given, "" for none  4 type and 5 data of the end
--       6 how long the marker stays, ms
-- Reply {"deleted", last id} {"missing"}
--
-- Nothing can be appended while the marker stays (publish.lua), so no writer that has not heard of it brings it back.
local log, stream, bell = KEYS[1], KEYS[2], ARGV[1]
local own = redis.call('HMGET', stream, 'deleted', 'last_id', 'keep', 'after', 'end_type')
if own[1] then
  redis.call('HSET', stream, 'deleted', '1') -- a write that changes nothing, for a WAIT behind it
  return { 'deleted', own[2] }
end
local last, fields = last_of(log)
if not last and not own[3] then
  return { 'missing' }
end
local before = last or own[2] or own[4] or NEVER_USED
local known = ARGV[3] ~= '' and ARGV[3] or NEVER_USED
local id = before
if not (fields and field(fields, 'z') or not last and own[5]) then
  local generation = next_generation(now_ms(), ARGV[2], halves(before), halves(known))
  id = generation and generation .. '-0' or before
end
redis.call('DEL', log, stream)
redis.call('HSET', stream, 'deleted', '1', 'last_id', id)
redis.call('PEXPIRE', stream, ARGV[6])
if id == before then
  nudge(bell)
else
  ring(bell, id .. ' ' .. before .. ' -', { ARGV[4], ARGV[5] }, 1, 2, 2, now_text(), true)
end
return { 'deleted', id }
