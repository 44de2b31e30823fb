-- Change fields of a record that exists; never bring one into being, for it would have no type and no expiry.
-- KEYS  1 record                              ARGV  (field, value) …
-- Reply {"amended"} {"missing"}
if redis.call('HEXISTS', KEYS[1], 'status') == 0 then
  return { 'missing' }
end
redis.call('HSET', KEYS[1], unpack(ARGV))
return { 'amended' }
