-- Look at the head of a queue's delayed set, by Redis' clock.
-- KEYS  1 delayed set                         ARGV  1 most members
-- Reply {ms until the next is due or "", members that are due now}
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', whole(now), 'LIMIT', 0, ARGV[1])
local next_one = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. whole(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return { next_one[2] and whole(math.max(0, tonumber(next_one[2]) - now)) or '', due }
