-- Write an owned log back after Redis lost data, and the record with it: of the events given, those above the log's
-- last id are appended, unless the record or the log names a successor.
-- KEYS  1 log, 2 record                      Touches: both, and rings the bell.
-- ARGV  1 bell  2 the writer's nonce  3 its generation  4 highest sequence it ever gave out, "-1" for none
--       5 "1" if the last event is terminal  6 expiry of the log, ms  7 of the record  8 most events kept, 0 for no limit
--       9 lease, ms  10 number of values of the record, then those (field, value), then the events (id, type, data)
-- Reply "stored" {"fenced", last id}
local log, record, bell, nonce, generation = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local is_terminal = ARGV[5] == '1'
local first = 11 + tonumber(ARGV[10])

local found = redis.call('HMGET', record, 'owner', 'status', 'generation')
local owner, status, known = found[1], found[2], found[3]
local last = last_of(log)
if status and (ENDED[status] or (owner ~= nonce and not less(known or '0', generation))) then
  return { 'fenced', last or NEVER_USED }
end
if last then
  local their_generation, their_sequence = halves(last)
  if less(generation, their_generation) then
    return { 'fenced', last }
  end
  if their_generation == generation and less(whole(math.max(tonumber(ARGV[4]), 0)), their_sequence) then
    return { 'fenced', last }
  end
end

local now, final, at = now_text(), #ARGV - 2, first
while at <= final and last and not id_less(last, ARGV[at]) do
  at = at + 3
end
for i = at, final, 3 do
  local entry = { 'XADD', log, ARGV[i], 'e', ARGV[i + 1], 'd', ARGV[i + 2], 't', now }
  if is_terminal and i == final then
    entry[#entry + 1] = 'z'
    entry[#entry + 1] = '1'
  end
  redis.call(unpack(entry))
end

local values = { 'updated_at', now, 'lease_until', whole(now + tonumber(ARGV[9])), 'owner', nonce }
for i = 11, first - 1 do
  values[#values + 1] = ARGV[i]
end
if final >= first then
  values[#values + 1] = 'last_id'
  values[#values + 1] = ARGV[final]
end
if is_terminal then
  values[#values + 1] = 'lease_until'
  values[#values + 1] = '0'
  values[#values + 1] = 'ended_at'
  values[#values + 1] = now
end
redis.call('HSET', record, unpack(values))
redis.call('PEXPIRE', log, ARGV[6])
redis.call('PEXPIRE', record, ARGV[7])
if tonumber(ARGV[8]) > 0 then
  redis.call('XTRIM', log, 'MAXLEN', '~', ARGV[8])
end
if at <= final then
  ring(bell, ARGV[at] .. ' - -', ARGV, at + 1, #ARGV, 3, now, is_terminal)
end
return 'stored'
