-- Move entries whose time has come from a queue's delayed set to a ready stream; each once, whoever else does the same.
-- KEYS  1 delayed set, 2 ready stream of one type     ARGV  members and task ids in turn
-- Reply the ids of the new entries, "" where another process was first
local added = {}
for i = 1, #ARGV, 2 do
  if redis.call('ZREM', KEYS[1], ARGV[i]) == 1 then
    added[#added + 1] = redis.call('XADD', KEYS[2], '*', 'task', ARGV[i + 1])
  else
    added[#added + 1] = ''
  end
end
return added
