-- Put a stream on the index of streams. All have the same score, so that the set is in the order of the names.
-- KEYS  1 index      Touches: it.
-- ARGV  1 name
-- Reply how many were added
return redis.call('ZADD', KEYS[1], '0', ARGV[1])
