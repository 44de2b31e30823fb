-- Let a pending task run, or an ended one run again: a compare-and-set on status, attempt and end.
-- KEYS  1 record                              Touches: it, and rings an empty bell for a re-run.
-- ARGV  1 bell  2 expiry, ms  3 the attempt a re-run replaces, "" for no re-run  4 the terminal event that it replaces,
--       "" for whichever it is: a run that was cancelled before it began has the attempt of the one before
-- Reply {"missing"} {"started"} {"joined"}
local record = KEYS[1]
local found = redis.call('HMGET', record, 'status', 'queued', 'attempt', 'not_before', 'reason', 'last_id')
if not found[1] or found[1] == 'deleted' then
  return { 'missing' }
end
-- Whoever asks for a task that was put off when it was created wants it now. One that failed keeps its pause: a reader
-- that only asks again for its stream must not hurry it.
local is_put_off = found[4] and found[5] ~= 'retry'
if found[1] == 'pending' and (found[2] ~= '1' or is_put_off) then
  redis.call('HSET', record, 'queued', '1', 'updated_at', whole(now_ms()))
  redis.call('HDEL', record, 'not_before')
  return { 'started' }
end
local is_replaced = found[3] == ARGV[3] and (ARGV[4] == '' or found[6] == ARGV[4])
if ENDED[found[1]] and ARGV[3] ~= '' and is_replaced then
  -- The chain is emptied: nothing of the old run stands, least of all its terminal event.
  redis.call('HSET', record, 'status', 'pending', 'queued', '1', 'reason', 'rerun', 'spent', '0', 'chain', '[]',
    'owner', '', 'lease_until', '0', 'updated_at', whole(now_ms()))
  redis.call('HDEL', record, 'end', 'ended_at', 'cancel', 'progress', 'checkpoint', 'resume_from', 'last_error',
    'opening', 'errors', 'dead', 'not_before', 'handed_back_by',
    'unfollowed_since')
  redis.call('PEXPIRE', record, ARGV[2])
  nudge(ARGV[1])
  return { 'started' }
end
touch(record)
return { 'joined' }
