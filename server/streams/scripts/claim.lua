-- Claim a task: take its lease and open a generation, unless somebody else holds it or it is over.
-- KEYS  1 log, 2 record                      Touches: both, and rings the bell.
-- ARGV  1 bell  2 nonce of this claim  3 name of the worker  4 lease, ms  5 random 0-999
--       6 expiry of the log while it is written, ms  7 of the record  8 retention of the log after the end, ms  9 of the record
--       10 "1" if an expired lease of another may be taken  11 expiry of the record of a dead letter, ms
-- Reply {"missing"} {"ended"} {"held", ms left} {"early", not before, ms} {"settled", id} {"exhausted"}
--       {"claimed", resume_from or "", record as HGETALL}
local log, record = KEYS[1], KEYS[2]
local bell, nonce, worker, lease, random = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]

local found = redis.call('HMGET', record, 'status', 'owner', 'lease_until', 'cancel', 'spent', 'max_attempts',
  'generation', 'chain', 'attempt', 'reason', 'resume_from', 'last_error', 'last_id', 'not_before', 'worker', 'overdue')
local status, owner, lease_until = found[1], found[2], tonumber(found[3] or '0')
if not status then
  return { 'missing' }
end
if ENDED[status] then
  return { 'ended' }
end
-- A claim whose reply was lost asks again. "The last id is what I would have written" could be a rival's.
if status == 'running' and owner == nonce then
  return { 'claimed', found[11] or '', redis.call('HGETALL', record) }
end
local now = now_ms()
if status == 'running' and lease_until > now then
  return { 'held', lease_until - now }
end
if status == 'running' and ARGV[10] ~= '1' then
  return { 'held', lease }
end
local is_over, ended_by = give_up(log, record, bell, random, ARGV[8], ARGV[9], ARGV[11])
if is_over then
  return ended_by and { 'settled', ended_by } or { 'exhausted' }
end
if status == 'pending' and tonumber(found[14] or '0') > now then
  return { 'early', found[14] }
end

local reason, why = found[10], found[12]
local last = last_of(log) or found[13] or nil
local generation = next_generation(now, random, last and halves(last) or '0', found[7] or '0')
if not generation then
  return { 'exhausted' }
end
if status == 'running' then
  local overdue = owner == '' and found[16]
  reason, why = overdue and 'retry' or 'worker_lost', overdue
  note_loss(record, found[9], overdue, found[15], now)
end
local attempt = tonumber(found[9] or '0') + 1
local chain, resume_from = chain_with(found[8], generation, found[11] or nil)
local data = '{"attempt":' .. attempt .. ',"reason":"' .. reason .. '","error":'
  .. (why and cjson.encode(why) or 'null') .. ',"resume_from":'
  .. (resume_from and '"' .. resume_from .. '"' or 'null') .. '}'
local id = generation .. '-0'
redis.call('XADD', log, id, 'e', 'attempt', 'd', data, 't', whole(now), 'p', last or NEVER_USED)
redis.call('HSET', record, 'status', 'running', 'owner', nonce, 'worker', worker, 'lease_until', whole(now + lease),
  'generation', generation, 'chain', chain, 'attempt', attempt, 'reason', reason, 'opening', data, 'last_id', id,
  'updated_at', whole(now))
redis.call('HINCRBY', record, 'spent', 1)
redis.call('HDEL', record, 'progress', 'last_error', 'not_before', 'handed_back_by', 'overdue', 'overdue_ends')
if not resume_from then
  redis.call('HDEL', record, 'resume_from', 'checkpoint')
end
redis.call('PEXPIRE', log, ARGV[6])
redis.call('PEXPIRE', record, ARGV[7])
ring(bell, id .. ' ' .. (last or NEVER_USED) .. ' -', { 'attempt', data }, 1, 2, 2, whole(now), false)
return { 'claimed', resume_from or '', redis.call('HGETALL', record) }
