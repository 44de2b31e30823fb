-- Append a batch to a shared log: the script counts, and opens a new generation after a failover or a restart.
-- KEYS  1 log, 2 idempotency key of this append, 3 what is known of the stream      Touches: all, and rings the bell.
-- ARGV  1 bell  2 hash of the body  3 random 0-999  4 the last id the publisher was given, "" for none
--       5 expiry of the log, ms  6 expiry of the idempotency key, ms  7 most events kept, 0 for no limit
--       8 number of events, then those (type, data), then "1" if the last event is terminal
--       then the number of the batch, for a token that a writer keeps for all its batches; "" for one of this append only
--       then most bytes kept, 0 to leave them for now, and how much longer than its log the stream's settings live, ms
--       last, for each event that has a mark: its number from 0, the field, its value
-- Reply {"stored", first id} {"repeated", first id} {"conflict"} {"closed", last id} {"deleted", last id} {"exhausted"}
local log, token, stream = KEYS[1], KEYS[2], KEYS[3]
local bell, body, random, publisher = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local count = tonumber(ARGV[8])
local is_terminal, batch, most_bytes = ARGV[9 + count * 2] == '1', ARGV[10 + count * 2], ARGV[11 + count * 2]

local earlier = redis.call('HMGET', token, 'body', 'first', 'batch')
local own = redis.call('HMGET', stream, 'deleted', 'last_id', 'after', 'keep', 'max_events', 'ttl_ms', 'end_type')
local noted, after, keep = own[2], own[3], own[4]
if batch == '' then
  -- What a key stands for is gone with its stream: it must not swallow an event of the stream made anew. The numbers of a
  -- writer are never used again, so one that is known was stored, whatever became of the stream; a late copy stays late.
  if own[1] then
    return { 'deleted', noted }
  end
  if earlier[1] and after and not id_less(after, earlier[2]) then
    earlier = {}
  end
end
if earlier[1] then
  -- A lower number comes late, from a connection that its writer gave up: nobody hears the answer.
  local is_new = batch ~= '' and tonumber(earlier[3]) < tonumber(batch)
  if not is_new and earlier[1] ~= body then
    return { 'conflict' }
  end
  if not is_new then
    redis.call('PEXPIRE', token, ARGV[6]) -- a write, for a WAIT behind it: perhaps the first one's was never answered
    return { 'repeated', earlier[2] }
  end
end
if own[1] then
  return { 'deleted', noted }
end
local last, fields = last_of(log)
if fields and field(fields, 'z') then
  if is_terminal then
    redis.call('XSETID', log, last) -- a write that changes nothing, for a WAIT behind it: see above
  end
  return { 'closed', last }
end
if not last and own[7] then -- its log has expired behind the end, which is remembered
  if is_terminal then
    touch(stream)
  end
  return { 'closed', noted }
end

-- A failover that lost a tail would otherwise hand the lost ids out again with other contents: a silent hole.
local incarnation = string.sub(string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)'), 1, 8)
local now = now_ms()
local generation, sequence, previous, lost
if last and fields and field(fields, 'r') == incarnation then
  local same, used = halves(last)
  if #used <= 15 then
    generation, sequence = same, tonumber(used) + 1
  end
end
if not generation then
  local known = publisher ~= '' and publisher or nil
  if noted and (not known or id_less(known, noted)) then
    known = noted
  end
  if known and after and not id_less(after, known) then
    known = nil -- of a stream of this name that was deleted: this one begins anew
  end
  generation = next_generation(now, random, last and halves(last) or '0', known and halves(known) or '0',
    after and halves(after) or '0')
  if not generation then
    return { 'exhausted' }
  end
  sequence = 0
  previous = last or known or NEVER_USED
  if known and id_less(previous, known) then
    lost = known
  end
end

local marks = {}
for i = 13 + count * 2, #ARGV, 3 do
  marks[tonumber(ARGV[i])] = { ARGV[i + 1], ARGV[i + 2] }
end

local stamp = whole(now)
local first = generation .. '-' .. whole(sequence)
for i = 0, count - 1 do
  local event_type, data = ARGV[9 + i * 2], ARGV[10 + i * 2]
  local entry = { 'XADD', log, generation .. '-' .. whole(sequence + i), 'e', event_type, 'd', data, 't', stamp, 'r', incarnation }
  if i == 0 and previous then
    entry[#entry + 1] = 'p'
    entry[#entry + 1] = previous
    if lost then
      entry[#entry + 1] = 'lost'
      entry[#entry + 1] = lost
    end
  end
  if marks[i] then
    entry[#entry + 1] = marks[i][1]
    entry[#entry + 1] = marks[i][2]
  end
  if is_terminal and i == count - 1 then
    entry[#entry + 1] = 'z'
    entry[#entry + 1] = '1'
  end
  redis.call(unpack(entry))
end
redis.call('HSET', token, 'body', body, 'first', first, 'count', count, 'batch', batch)
redis.call('PEXPIRE', token, ARGV[6])
local ttl = own[6] and own[6] ~= '0' and own[6] or ARGV[5]
if keep then
  redis.call('HSET', stream, 'last_id', generation .. '-' .. whole(sequence + count - 1))
  if is_terminal then -- for those who come when the log has expired
    redis.call('HSET', stream, 'end_type', ARGV[7 + count * 2], 'end', ARGV[8 + count * 2], 'ended_at', stamp)
  elseif own[7] then -- a foreign writer has gone on behind the end
    redis.call('HDEL', stream, 'end_type', 'end', 'ended_at')
  end
  redis.call('PEXPIRE', stream, whole(tonumber(ttl) + tonumber(ARGV[12 + count * 2])))
end
-- @retain
retain(log, keep, own[5], ttl, is_terminal, ARGV[7])
if most_bytes ~= '0' then
  -- @trim
  trim_to_bytes(log, tonumber(most_bytes))
end
ring(bell, first .. ' ' .. (previous or '-') .. ' ' .. (lost or '-'), ARGV, 9, 8 + count * 2, 2, stamp, is_terminal)
return { 'stored', first }
