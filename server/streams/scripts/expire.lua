-- Judge a task whose lease has run out, or that waits although it was cancelled, for a process that runs no tasks: end
-- it if it must not be tried again.
-- KEYS  1 log, 2 record                      Touches: both, and rings the bell.
-- ARGV  1 bell  2 random 0-999  3 retention of the log, ms  4 of the record  5 of the record of a dead letter
-- Reply {"missing"} {"ended"} {"held"} {"open"} {"settled", id} {"exhausted"}
local log, record = KEYS[1], KEYS[2]
local found = redis.call('HMGET', record, 'status', 'lease_until')
if not found[1] then
  return { 'missing' }
end
if ENDED[found[1]] then
  return { 'ended' }
end
if found[1] == 'running' and tonumber(found[2] or '0') > now_ms() then
  return { 'held' }
end
local is_over, id = give_up(log, record, ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
if not is_over then
  return { 'open' }
end
return id and { 'settled', id } or { 'exhausted' }
