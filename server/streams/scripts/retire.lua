-- Remove consumers of a group that nobody has seen for long and that hold nothing: those of workers that were killed.
-- In one step, because what a consumer holds is lost with it: it may be given something between a look and the removal.
-- KEYS  1 stream                              ARGV  1 group  2 for how long it was not seen, ms
-- Reply how many were removed
local removed = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if field(consumer, 'pending') == 0 and field(consumer, 'idle') >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], field(consumer, 'name'))
    removed = removed + 1
  end
end
return removed
