-- Append a batch to an owned log, or repair the log after Redis lost data; with the record in the same step.
-- KEYS  1 log, 2 record                      Touches: both, and rings the bell.
-- ARGV  1 bell  2 "append" or "repair"  3 the last id the writer expects  4 the writer's nonce  5 its generation
--       6 sequence of the first event given  7 number of events  8 "1" if the last one is terminal
--       9 expiry of the log, ms  10 expiry of the record, ms  11 "1" if a refresh of the expiry is due
--       12 most events kept, 0 for no limit  13 highest sequence the writer ever gave out, "-1" for none
--       14 lease, ms  15 number of record values, then those (field, value), then the events (type, data)
-- Reply {"stored"} {"differs", last id} {"lost", last id} {"fenced", last id} {"closed", last id}
--
-- append: nothing changes unless the log's last id is the expected one and the record is this writer's.
-- repair: of the events given, those above the last id are appended, unless the record or the log names a successor.
local log, record = KEYS[1], KEYS[2]
local bell, mode, expected, nonce, generation = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local first, count, is_terminal = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1'
local now = now_ms()

local pairs_at = 16
local events_at = pairs_at + tonumber(ARGV[15])
local values = { 'updated_at', whole(now) }
for i = pairs_at, events_at - 1 do
  values[#values + 1] = ARGV[i]
end

local last, fields
if mode == 'append' then
  local rows = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
  if rows[1] then
    last, fields = rows[1][1], rows[1][2]
  end
  if last ~= expected then
    last, fields = last_of(log)
  end
else
  last, fields = last_of(log)
end

local found = redis.call('HMGET', record, 'owner', 'status', 'generation')
local owner, status, known = found[1], found[2], found[3]
local from = first

if mode == 'append' then
  if owner and owner ~= nonce then
    return { 'fenced', last or NEVER_USED }
  end
  if last ~= expected then
    return { 'differs', last or NEVER_USED }
  end
  if not owner then
    return { 'lost', last }
  end
  if fields and field(fields, 'z') then
    return { 'closed', last }
  end
else
  if status and (ENDED[status] or (owner ~= nonce and not less(known or '0', generation))) then
    return { 'fenced', last or NEVER_USED }
  end
  if last then
    local their_generation, their_sequence = halves(last)
    if less(generation, their_generation) or (their_generation == generation and less(whole(math.max(tonumber(ARGV[13]), 0)), their_sequence)) then
      return { 'fenced', last }
    end
    if their_generation == generation then
      from = math.max(first, tonumber(their_sequence) + 1)
    end
  end
  values[#values + 1] = 'lease_until'
  values[#values + 1] = whole(now + tonumber(ARGV[14]))
  values[#values + 1] = 'owner'
  values[#values + 1] = nonce
end

local stamp, events = whole(now), {}
for i = from, first + count - 1 do
  local at = events_at + (i - first) * 2
  local event_type, data = ARGV[at], ARGV[at + 1]
  local entry = { 'XADD', log, generation .. '-' .. whole(i), 'e', event_type, 'd', data, 't', stamp }
  if is_terminal and i == first + count - 1 then
    entry[#entry + 1] = 'z'
    entry[#entry + 1] = '1'
  end
  redis.call(unpack(entry))
  events[#events + 1] = event_type
  events[#events + 1] = data
end

if first + count > 0 then
  values[#values + 1] = 'last_id'
  values[#values + 1] = generation .. '-' .. whole(first + count - 1)
end
if is_terminal then
  values[#values + 1] = 'lease_until'
  values[#values + 1] = '0'
  values[#values + 1] = 'ended_at'
  values[#values + 1] = stamp
end
redis.call('HSET', record, unpack(values))

if not last or is_terminal or mode == 'repair' or ARGV[11] == '1' then
  redis.call('PEXPIRE', log, ARGV[9])
  redis.call('PEXPIRE', record, ARGV[10])
end
if tonumber(ARGV[12]) > 0 and #events > 0 then
  redis.call('XTRIM', log, 'MAXLEN', '~', ARGV[12])
end
if #events > 0 then
  ring(bell, generation .. '-' .. whole(from), nil, nil, events, stamp, is_terminal)
end
return { 'stored' }
