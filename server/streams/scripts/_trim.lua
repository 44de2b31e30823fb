-- For scripts that say `@trim` where it is due. Keeps a log within so many bytes of memory, about: the oldest entries go,
-- whole nodes of them, and the newest stays whatever its size. MEMORY USAGE walks every node, so this is not for each
-- append. In pcall: an ACL may forbid it, and the append must stand all the same.
local function bytes_of(log)
  local size = redis.pcall('MEMORY', 'USAGE', log, 'SAMPLES', '0')
  return type(size) == 'number' and size or 0
end

local function trim_to_bytes(log, most)
  local size, length, gone = bytes_of(log), redis.call('XLEN', log), 1
  while size > most and length > 1 and gone > 0 do
    -- What would fit if all were of one size, and a little less, so that it is not at once too much again. The oldest may
    -- be the smallest: then a tenth goes, and once more.
    local keep = math.max(1, math.floor(length * math.min(most / size * 0.95, 0.9)))
    gone = redis.call('XTRIM', log, 'MAXLEN', '~', keep)
    size, length = bytes_of(log), length - gone
  end
end
