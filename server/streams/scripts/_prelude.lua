-- Shared by every script; joined in front of it when it is loaded, or where it says `@prelude`: these functions are made
-- anew in each run that gets there. Defines functions only, touches no key by itself.
-- Ids and generations stay decimal strings: exact beyond 2^53, where Lua's numbers are not.

local NEVER_USED = '0-0'

local function now_ms()
  return tonumber(now_text())
end

local function whole(number)
  return string.format('%.0f', number)
end

local function halves(id)
  local generation, sequence = string.match(id, '^(%d+)-(%d+)$')
  return generation, sequence
end

local function less(a, b) -- decimal strings without leading zeros
  if #a ~= #b then
    return #a < #b
  end
  return a < b
end

local function id_less(a, b)
  local ag, as = halves(a)
  local bg, bs = halves(b)
  if ag ~= bg then
    return less(ag, bg)
  end
  return less(as, bs)
end

local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return fields[i + 1]
    end
  end
  return nil
end

-- The last id a log has given out, the fields of that entry if it is still there, and XINFO; nil where there is no log.
-- The newest entry is not enough: its successors may have been trimmed or deleted, and their ids are used up.
local function last_of(log)
  if redis.call('EXISTS', log) == 0 then
    return nil, nil
  end
  local info = redis.call('XINFO', 'STREAM', log)
  local last = field(info, 'last-generated-id')
  local rows = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
  if rows[1] and rows[1][1] == last then
    return last, rows[1][2], info
  end
  return last, nil, info
end

-- A generation above everything the log, the record and the caller know, so that it is never used twice.
local function next_generation(now, random, ...)
  local highest = now
  for _, known in ipairs({ ... }) do
    if #known > 15 then
      return nil -- a foreign writer used ids beyond exact arithmetic; going on could repeat one
    end
    highest = math.max(highest, tonumber(known))
  end
  return whole(highest + 1 + tonumber(random))
end

-- A write that changes nothing, for a WAIT behind it: what is there already may have been written by a call whose WAIT was
-- never reached. Not refused while memory is full.
local function touch(record)
  local left = redis.call('PTTL', record)
  if left > 0 then
    redis.call('PEXPIRE', record, left)
  end
end

local function nudge(channel)
  redis.pcall('SPUBLISH', channel, '')
end

local ENDED = { completed = true, failed = true, cancelled = true, deleted = true }

-- The chain of the run with a new generation at its end: what no longer stands is cut off.
local function chain_with(chain, generation, resume_from)
  local kept = {}
  if resume_from then
    local resumed = halves(resume_from)
    local found = false
    for _, link in ipairs(cjson.decode(chain or '[]')) do
      if not less(resumed, link[1]) then
        kept[#kept + 1] = '["' .. link[1] .. '",' .. (link[2] ~= cjson.null and '"' .. link[2] .. '"' or 'null') .. ']'
        found = found or link[1] == resumed
      end
    end
    if not found then
      kept, resume_from = {}, nil
    end
  end
  kept[#kept + 1] = '["' .. generation .. '",' .. (resume_from and '"' .. resume_from .. '"' or 'null') .. ']'
  return '[' .. table.concat(kept, ',') .. ']', resume_from
end

-- Notes how an attempt failed: one JSON object a line, at most so many bytes of the newest.
local ERROR_BYTES = 65536
local function note_error(record, attempt, text, code, now)
  local known = redis.call('HGET', record, 'errors')
  local line = '{"attempt":' .. attempt .. ',"error":' .. cjson.encode(text) .. ',"code":' .. cjson.encode(code)
    .. ',"at":' .. whole(now) .. '}'
  local lines = known and known .. '\n' .. line or line
  while #lines > ERROR_BYTES do
    local cut = string.find(lines, '\n', 1, true)
    if not cut then
      break
    end
    lines = string.sub(lines, cut + 1)
  end
  redis.call('HSET', record, 'errors', lines)
end

-- The same for an attempt that is over without its worker having said so, or that hung. Returns what is noted.
local function note_loss(record, attempt, overdue, worker, now)
  local text = overdue or 'The worker ' .. (worker or '') .. ' was lost.'
  note_error(record, attempt, text, overdue and 'timeout' or 'worker_lost', now)
  return text
end

-- Ends a task that has no living writer: one generation that holds nothing but the terminal event. What stood, stands.
-- A task given up becomes a dead letter, for which the caller gives the record the longer expiry.
local function settle(log, record, channel, status, event_type, data, random, log_ttl, record_ttl, is_dead)
  local now = now_ms()
  local known = redis.call('HMGET', record, 'generation', 'chain', 'last_id')
  local last = last_of(log) or known[3] or nil -- a log that was lost voids nothing: its readers are told a gap
  local generation = next_generation(now, random, last and halves(last) or '0', known[1] or '0')
  if not generation then
    return nil
  end
  local id = generation .. '-0'
  local chain = chain_with(known[2] or '[]', generation, last)
  redis.call('XADD', log, id, 'e', event_type, 'd', data, 't', whole(now), 'p', last or NEVER_USED, 'z', '1')
  redis.call('HSET', record, 'status', status, 'end', data, 'last_id', id, 'generation', generation, 'chain', chain,
    'owner', '', 'lease_until', '0', 'updated_at', whole(now), 'ended_at', whole(now))
  if is_dead then
    redis.call('HSET', record, 'dead', '1')
  end
  redis.call('PEXPIRE', log, log_ttl)
  redis.call('PEXPIRE', record, record_ttl)
  ring(channel, id .. ' ' .. (last or NEVER_USED) .. ' -', { event_type, data }, 1, 2, 2, whole(now), true)
  return id
end

-- Ends a task without a living writer if it must not be tried again: it was cancelled, its worker was lost and its
-- policy forbids another attempt, or its attempts are used up. Returns whether it has to end, and the id if it did.
-- An attempt that its worker gave away because it hung (overdue.lua) has failed by its timeout: no worker was lost. Where
-- a task must not run twice it is over all the same, since what hangs may go on. What overdue.lua noted holds while
-- nobody owns the task: whoever claims or repairs it owns it, also one who does not know of these fields.
local function give_up(log, record, channel, random, log_ttl, record_ttl, dead_ttl)
  local found = redis.call('HMGET', record, 'cancel', 'spent', 'max_attempts', 'on_worker_lost', 'status', 'worker',
    'attempt', 'overdue', 'overdue_ends', 'owner')
  local most = found[3] or '1'
  if found[1] then
    return true, settle(log, record, channel, 'cancelled', 'cancelled', '{}', random, log_ttl, record_ttl)
  end
  local is_lost = found[5] == 'running'
  local overdue = is_lost and found[10] == '' and found[8]
  local is_used_up = tonumber(found[2] or '0') >= tonumber(most)
  local text, code
  if overdue and (is_used_up or found[9] == '1' or found[4] == 'fail') then
    text, code = overdue, 'timeout'
  elseif is_lost and found[4] == 'fail' then
    text, code = 'The worker that ran this task was lost, and the task asks not to be run again then.', 'worker_lost'
  elseif is_used_up then
    local used_up = most == '1' and 'it may be tried only once.' or 'its ' .. most .. ' attempts are used up.'
    text = 'The worker that ran this task was lost, and ' .. used_up
    code = 'attempts_exhausted'
  else
    return false, nil
  end
  if is_lost then
    note_loss(record, found[7], overdue, found[6], now_ms())
  end
  local data = '{"error":' .. cjson.encode(text) .. ',"code":"' .. code .. '"}'
  return true, settle(log, record, channel, 'failed', 'error', data, random, log_ttl, dead_ttl, true)
end
