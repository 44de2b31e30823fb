-- Put a stream on the index of streams, for a writer that speaks by its lane.
-- KEYS  1 index                               ARGV  1 name
-- Reply how many were added
return redis.call('ZADD', KEYS[1], '0', ARGV[1])
