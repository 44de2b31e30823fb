-- One consistent look at a stream: a page of its log, the log's last id, and what the record says.
-- KEYS  1 log, 2 record (of a shared stream: the log again)      Touches: nothing.
-- ARGV  1 first id wanted, inclusive  2 last id wanted or "+"  3 most entries  4 "1" if the stream has a record
--       5 "1" to read backwards, newest first
-- Reply {entries, last id or "", "1" if the last entry is terminal, record values or {}, ms since epoch,
--        the highest id ever deleted by XDEL, "1" if the log holds every entry it ever had}
local PAGE_BYTES = 1048576

local rows = {}
if ARGV[3] ~= '0' then -- XRANGE answers COUNT 0 with nil, not with nothing
  if ARGV[5] == '1' then
    rows = redis.call('XREVRANGE', KEYS[1], ARGV[2], ARGV[1], 'COUNT', ARGV[3])
  else
    rows = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
  end
end
-- Large events make shorter pages: a page is one write, and stays in memory for a reader that does not read. Two
-- entries are kept whatever their size: the first may be the one that the reader has.
local size = 0
for i = 1, #rows do
  size = size + #(field(rows[i][2], 'd') or '')
  if size > PAGE_BYTES and i > 1 then
    rows = { unpack(rows, 1, i) }
    break
  end
end
local last, fields, info = last_of(KEYS[1])
local record = {}
if ARGV[4] == '1' then
  record = redis.call('HMGET', KEYS[2], 'status', 'chain', 'last_id', 'lease_until', 'end', 'opening', 'attempt',
    'on_disconnect')
  if not record[1] then
    record = {}
  end
end
return { rows, last or '', (fields and field(fields, 'z')) and '1' or '0', record, now_ms(),
  info and field(info, 'max-deleted-entry-id') or NEVER_USED,
  (not info or field(info, 'entries-added') == field(info, 'length')) and '1' or '0' }
