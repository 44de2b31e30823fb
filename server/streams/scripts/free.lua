-- Give up a unique key whose task has ended, unless it was taken anew since the caller looked.
-- KEYS  1 holder                              ARGV  1 the token that the caller saw
-- Reply {"freed"} {"other"}
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return { 'other' }
end
redis.call('DEL', KEYS[1])
return { 'freed' }
