-- Make an ordinary ended task of a dead letter: it expires as any other.
-- KEYS  1 record                              ARGV  1 expiry of the record after the end, ms
-- Reply {"discarded"} {"missing"}
if redis.call('HDEL', KEYS[1], 'dead') == 0 then
  return { 'missing' }
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return { 'discarded' }
