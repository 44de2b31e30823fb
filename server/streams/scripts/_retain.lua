-- For scripts that say `@retain` where it is due. Has a log expire and bounds how many events it keeps: by settings of the
-- stream's own, which are kept to the event, or by those of the installation, about. An end is not counted: it must not
-- push out what it ends.
local function retain(log, keep, own_most, ttl, is_terminal, usual_most)
  redis.call('PEXPIRE', log, ttl)
  local most = keep == 'latest' and 1 or tonumber(own_most or '0')
  if most > 0 then
    redis.call('XTRIM', log, 'MAXLEN', is_terminal and most + 1 or most)
  elseif usual_most ~= '0' then
    redis.call('XTRIM', log, 'MAXLEN', '~', usual_most)
  end
end
