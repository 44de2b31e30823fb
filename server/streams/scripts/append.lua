-- Append a batch to an owned log, with the record in the same step.
-- KEYS  1 log, 2 record                      Touches: both, and rings the bell.
-- ARGV  1 bell  2 the writer's nonce  3 the last id the writer expects  4 number of words before the events, 0 for none:
--       5 "1" if the last event is terminal  6 expiry of the log, ms  7 of the record, 0 to leave both as they are
--       8 most events kept  9 most bytes; 0 to leave older ones for now  then values of the record (field, value)
--       then the events (id, type, data); none to ask only
-- Reply "stored" {"differs", last id} {"lost", last id} {"fenced", last id} {"closed", last id}
--
-- Nothing is changed unless the log's last id is the expected one and the record is this writer's.
local log, record, bell, nonce, expected = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local extras = tonumber(ARGV[4])
local first = 5 + extras
local is_terminal = extras > 0 and ARGV[5] == '1'
local found = redis.call('HMGET', record, 'owner', 'status', 'last_id')
local now = now_text()

-- As a rule the log itself need not be read, which copies its last entry: every script that appends to it notes the id
-- in the record in the same step, and XADD refuses a log that is gone or is further on than its record says.
local at = first
if found[1] == nonce and found[2] == 'running' and found[3] == expected and ARGV[first] and not is_terminal then
  local id = ARGV[first]
  if redis.pcall('XADD', log, 'NOMKSTREAM', id, 'e', ARGV[first + 1], 'd', ARGV[first + 2], 't', now) == id then
    at = first + 3
  end
end

if at == first then
  -- @prelude
  local last, fields = last_of(log)
  if found[1] and found[1] ~= nonce then
    return { 'fenced', last or NEVER_USED }
  end
  local is_closed = fields and field(fields, 'z')
  if found[1] and (last ~= expected or is_closed) then
    -- Perhaps the batch was stored over a connection that broke. WAIT looks at what its own connection wrote: without a
    -- write here it would not wait for the batch to be safe.
    redis.call('HSET', record, 'owner', nonce)
  end
  if last ~= expected then
    return { 'differs', last or NEVER_USED }
  end
  if not found[1] then
    return { 'lost', last }
  end
  if is_closed then
    return { 'closed', last }
  end
end

local final = #ARGV - 2
for i = at, final, 3 do
  if is_terminal and i == final then
    redis.call('XADD', log, ARGV[i], 'e', ARGV[i + 1], 'd', ARGV[i + 2], 't', now, 'z', '1')
  else
    redis.call('XADD', log, ARGV[i], 'e', ARGV[i + 1], 'd', ARGV[i + 2], 't', now)
  end
end

local last_id = final >= first and ARGV[final] or expected
if extras == 0 then
  redis.call('HSET', record, 'updated_at', now, 'last_id', last_id)
else
  redis.call('HSET', record, 'updated_at', now, 'last_id', last_id, unpack(ARGV, 10, first - 1))
  if is_terminal then
    redis.call('HSET', record, 'lease_until', '0', 'ended_at', now)
  end
  if ARGV[6] ~= '0' then
    redis.call('PEXPIRE', log, ARGV[6])
    redis.call('PEXPIRE', record, ARGV[7])
  end
  if ARGV[8] ~= '0' then
    redis.call('XTRIM', log, 'MAXLEN', '~', ARGV[8])
  end
  if ARGV[9] ~= '0' then
    -- @trim
    trim_to_bytes(log, tonumber(ARGV[9]))
  end
end
if final >= first then
  ring(bell, ARGV[first] .. ' - -', ARGV, first + 1, #ARGV, 3, now, is_terminal)
end
return 'stored'
