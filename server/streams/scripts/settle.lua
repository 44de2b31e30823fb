-- Cancel or reap a task. Where a writer lives it is only asked to stop; elsewhere the task ends here and now.
-- KEYS  1 log, 2 record                      Touches: both, and rings the bell; nudges the worker.
-- ARGV  1 bell  2 control channel  3 "cancel" or "reap"  4 status  5 type of the terminal event  6 its data
--       7 random 0-999  8 retention of the log, ms  9 of the record  10 "1" if an expired lease may be judged
-- Reply {"missing"} {"ended"} {"held"} {"flagged"} {"settled", id} {"exhausted"}
local log, record = KEYS[1], KEYS[2]
local found = redis.call('HMGET', record, 'status', 'lease_until', 'generation')
local status = found[1]
if not status or status == 'deleted' then
  return { 'missing' }
end
if ENDED[status] then
  if ARGV[3] == 'cancel' then
    touch(record)
  end
  return { 'ended' }
end
local lives = status == 'running' and (tonumber(found[2] or '0') > now_ms() or ARGV[10] ~= '1')
if lives and ARGV[3] == 'reap' then
  return { 'held' }
end
if lives then
  redis.call('HSET', record, 'cancel', found[3])
  redis.pcall('SPUBLISH', ARGV[2], 'cancel')
  return { 'flagged' }
end
local id = settle(log, record, ARGV[1], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9])
return id and { 'settled', id } or { 'exhausted' }
