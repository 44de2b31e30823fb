-- In front of every script: the time, and the doorbell. Short, because the text of a script runs anew each time, and
-- makes its functions anew each time. Touches no key by itself.

local BELL_BYTES = 65536 -- a fuller bell could overrun a replica's pub/sub buffer: it then carries the ids only

-- Milliseconds since epoch, as text: to make text of a number takes as long as to append an event.
local function now_text()
  local time = redis.call('TIME')
  return time[1] .. string.sub('00000' .. time[2], -6, -4)
end

-- One message per batch: "<first id> <p> <lost> <count>\n", then "<type> <t> <z> <bytes>\n<data>" for each event.
-- Events are words[at] (type) and words[at + 1] (data), the next ones `step` further, up to words[to].
-- In pcall: a default ACL user may not publish, and the append must still stand.
local function ring(channel, head, words, at, to, step, now, is_terminal)
  local middle = ' ' .. now .. ' 0 '
  if at + 1 == to and #words[to] + 64 <= BELL_BYTES and not is_terminal then -- one event, as a rule
    redis.pcall('SPUBLISH', channel, head .. ' 1\n' .. words[at] .. middle .. #words[to] .. '\n' .. words[to])
    return
  end
  local parts, size = { head .. ' ' .. ((to - at - 1) / step + 1) .. '\n' }, 0
  for i = at, to, step do
    local data = words[i + 1]
    local ends = is_terminal and i + 1 == to
    parts[#parts + 1] = words[i] .. (ends and ' ' .. now .. ' 1 ' or middle) .. #data .. '\n'
    parts[#parts + 1] = data
    size = size + #data + 64
  end
  redis.pcall('SPUBLISH', channel, size > BELL_BYTES and parts[1] or table.concat(parts))
end
