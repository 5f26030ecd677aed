-- Applies up to 128 ops to a fleet's table, by one call: judge all, write once, publish once.
--
-- KEYS: table (hash), closed (sorted set: name -> version), log (stream).
-- ARGV: channel, epoch, deadline in ms (0: none), fresh tag, PUBLISH or SPUBLISH, batches that the log keeps;
--       then 8 for each op: kind, name, up to four arguments, author, reason.
-- Answer: code, epoch, seq, tag, now in ms; after the code OK one `RESULT|value` for each op.
--         Any other code means that nothing was written.
--
-- A script's writes are not undone when it fails. So everything is judged before the first write, and the first write is
-- the one that Redis refuses when it has no memory left. All numbers are milliseconds or versions, below 2^53, and are
-- written with %.0f, since Lua would write a large one as 1.7e+12.
local TABLE, CLOSED, LOG = KEYS[1], KEYS[2], KEYS[3]
local unpack = table.unpack or unpack
local CHANNEL, EPOCH, DEADLINE, TAG, PUBLISH, LOG_BATCHES = unpack(ARGV, 1, 6)
local NAMES_MAX, CLOSED_MAX, DROPPED_MAX, META_FIELDS = 20000, 20000, 1000, 5
local INTEGER_MAX, SPAN_MAX, STEP_MAX = 9007199254740992, 1000000000000, 4294967295
local HEAD, WORDS = 6, 8

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function int(number)
  return string.format('%.0f', number)
end

-- A plain decimal up to 2^53, else nil.
local function num(text)
  local number = text and #text <= 16 and string.match(text, '^%d+$') and tonumber(text)
  return number and number <= INTEGER_MAX and number or nil
end

-- A length of time, short enough that no sum with it leaves the exact integers; else nil.
local function span(text)
  local number = num(text)
  return number and number <= SPAN_MAX and number or nil
end

local function is_id(text)
  return #text <= 64 and string.match(text, '^[%w._:/@+-]*$')
end

-- Percent-encoded text: what would break a line or a field cannot stand in it.
local function is_words(text)
  return #text <= 480 and string.match(text, '^[ -{}~]*$')
end

local head = redis.call('HMGET', TABLE, '!e', '!s', '!t', '!f')
local epoch, seq, tag, floor = head[1], num(head[2] or ''), head[3], num(head[4] or '') or 0

local function answer(code)
  return { code, epoch or '', int(seq or 0), tag or '', int(now) }
end

if not epoch or not seq or not tag then
  return answer('NOEPOCH')
end
if epoch ~= EPOCH then
  return answer('EPOCH')
end
if DEADLINE ~= '0' and now > (num(DEADLINE) or 0) then
  return answer('EXPIRED')
end

local FIELDS = { 'ver', 'st', 'dur', 'till', 'lid', 'holder', 'lease', 'ok', 'sv', 'step', 'ov', 'stop', 'by', 'why' }
local NUMBERS = { ver = true, dur = true, till = true, lease = true, ok = true, sv = true, step = true, stop = true }

-- A stored value, nil if it is none. Fields of a newer writer stay as they are, in `rest`.
local function parse(text)
  local value, count, rest = {}, 0, {}
  for field in string.gmatch(text .. '|', '([^|]*)|') do
    count = count + 1
    local key = FIELDS[count]
    if not key then
      rest[#rest + 1] = '|' .. field
    elseif NUMBERS[key] then
      value[key] = num(field)
      if not value[key] then
        return nil
      end
    else
      value[key] = field
    end
  end
  if count < #FIELDS then
    return nil
  end
  value.rest = table.concat(rest)
  return value
end

local function write(value)
  local fields = {}
  for i, key in ipairs(FIELDS) do
    fields[i] = NUMBERS[key] and int(value[key]) or value[key]
  end
  return table.concat(fields, '|') .. value.rest
end

-- A breaker that is not in the table is closed, since the version that the sorted set has for it, or the floor.
local function absent(name)
  local version = tonumber(redis.call('ZSCORE', CLOSED, name) or '') or floor
  return { ver = version, st = 'C', dur = 0, till = 0, lid = '', holder = '', lease = 0, ok = 0, sv = 0, step = 0,
    ov = '-', stop = 0, by = '', why = '', rest = '' }
end

local function held(value)
  return value.st ~= 'C' or value.ov ~= '-'
end

local function no_lease(value)
  value.lid, value.holder, value.lease = '', '', 0
end

local function open(value, dur)
  value.st, value.dur, value.till, value.ok = 'O', dur, now + dur, 0
  no_lease(value)
end

local function close(value)
  value.st, value.dur, value.till, value.ok, value.step = 'C', 0, 0, 0, 0
  no_lease(value)
end

local names = redis.call('HLEN', TABLE) - META_FIELDS

-- Each op takes a value and its arguments, changes the value and answers OK, or leaves it and answers why not; a second
-- result says that author and reason are those of the change. While an override lies over a breaker, what workers
-- propose is STALE.
local ops = {}

-- A step above 0: the breaker had recovered only just before, and its backoff goes on.
function ops.trip(value, expected, dur, step)
  expected, dur, step = num(expected), span(dur), num(step)
  if not expected or not dur or not step or step > STEP_MAX then
    return 'BADOP'
  end
  if value.ov ~= '-' or value.st ~= 'C' or expected < value.ver then
    return 'STALE'
  end
  if names >= NAMES_MAX then
    return 'FULL'
  end
  open(value, dur)
  value.step = step
  return 'OK', true
end

-- A deadline further away than it was ever set means that Redis's clock was set back.
function ops.probe(value, lid, holder, lease)
  lease = span(lease)
  if not lease or lid == '' or not is_id(lid) or not is_id(holder) then
    return 'BADOP'
  end
  if value.ov ~= '-' or value.st == 'C' then
    return 'STALE'
  end
  if value.st == 'O' and now < value.till and value.till - now <= value.dur then
    return 'WAIT'
  end
  if value.st == 'H' and now < value.lease and value.lease - now <= 2 * lease + 60000 then
    return 'WAIT'
  end
  if value.st == 'O' then
    value.ok = 0
  end
  value.st, value.lid, value.holder, value.lease = 'H', lid, holder, now + lease
  return 'OK'
end

local function leased(value, lid)
  return value.ov == '-' and value.st == 'H' and value.lid == lid and lid ~= ''
end

function ops.renew(value, lid, lease)
  lease = span(lease)
  if not lease then
    return 'BADOP'
  end
  if not leased(value, lid) then
    return 'STALE'
  end
  value.lease = now + lease
  return 'OK'
end

function ops.free(value, lid)
  if not leased(value, lid) then
    return 'STALE'
  end
  no_lease(value)
  return 'OK'
end

function ops.pok(value, lid, count, need)
  count, need = span(count), span(need)
  if not count or not need then
    return 'BADOP'
  end
  if not leased(value, lid) then
    return 'STALE'
  end
  value.ok = math.min(value.ok + count, SPAN_MAX)
  if value.ok >= need then
    -- What probes have closed keeps the length and the step of its last cooldown, so that every host can go on with the
    -- backoff if it soon trips again; a reset leaves neither.
    local dur, step = math.max(value.dur, 1), value.step
    close(value)
    value.dur, value.step = dur, step
    return 'OK', true
  end
  no_lease(value)
  return 'OK'
end

function ops.pfail(value, lid, dur)
  dur = span(dur)
  if not dur then
    return 'BADOP'
  end
  if not leased(value, lid) then
    return 'STALE'
  end
  open(value, dur)
  value.step = math.min(value.step + 1, STEP_MAX)
  return 'OK', true
end

function ops.extend(value, expected, dur)
  expected, dur = num(expected), span(dur)
  if not expected or not dur then
    return 'BADOP'
  end
  if value.ov ~= '-' or value.st ~= 'O' or expected ~= value.ver then
    return 'STALE'
  end
  if now + dur <= value.till then
    return 'NOOP'
  end
  value.till, value.dur = now + dur, math.max(value.dur, dur)
  return 'OK'
end

function ops.reset(value, expected)
  if expected ~= '-1' and not num(expected) then
    return 'BADOP'
  end
  if expected ~= '-1' and num(expected) < value.ver then
    return 'STALE'
  end
  close(value)
  return 'OK', true
end

function ops.force(value, to, dur)
  dur = span(dur)
  if not dur or (to ~= 'F' and to ~= 'K') then
    return 'BADOP'
  end
  value.ov, value.stop = to, 0
  if dur > 0 then
    value.stop = now + dur
  end
  return 'OK', true
end

function ops.release(value, expected)
  if expected ~= '-1' and not num(expected) then
    return 'BADOP'
  end
  if value.ov == '-' then
    return 'NOOP'
  end
  if expected ~= '-1' and num(expected) < value.ver then
    return 'STALE'
  end
  value.ov, value.stop = '-', 0
  return 'OK', true
end

-- Judge. Ops on one name see what those before them in the batch have made of it.
local copies, touched = {}, {}
local lines, reply = {}, answer('OK')

for at = HEAD + 1, #ARGV, WORDS do
  local kind, name = ARGV[at], ARGV[at + 1]
  local whole = #ARGV >= at + WORDS - 1
  local plain = whole and #name <= 128 and string.match(name, '^[%w._:/@+-]+$')
  if not plain or not ops[kind] or not is_words(ARGV[at + 6]) or not is_words(ARGV[at + 7]) then
    reply[#reply + 1] = 'BADOP|'
  else
    local copy = copies[name]
    if not copy then
      local stored = redis.call('HGET', TABLE, name)
      copy = { value = stored and parse(stored) or absent(name), stored = stored, changed = false }
      copies[name] = copy
    end
    local value = copy.value
    local was_held = held(value)
    local result, authored = ops[kind](value, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
    if result == 'OK' then
      seq = seq + 1
      value.ver, value.sv = seq, 0
      if authored then
        value.by, value.why = ARGV[at + 6], ARGV[at + 7]
      end
      if held(value) and not was_held then
        names = names + 1
      elseif was_held and not held(value) then
        names = names - 1
      end
      if not copy.changed then
        copy.changed = true
        touched[#touched + 1] = name
      end
      lines[#lines + 1] = name .. '\t' .. write(value)
    end
    reply[#reply + 1] = result .. '|' .. write(value)
  end
end

if #lines == 0 then
  return reply
end

local sets, dels, opened, closed = {}, {}, {}, {}
for _, name in ipairs(touched) do
  local copy = copies[name]
  if held(copy.value) then
    sets[#sets + 1] = name
    sets[#sets + 1] = write(copy.value)
    opened[#opened + 1] = name
  else
    if copy.stored then
      dels[#dels + 1] = name
    end
    closed[#closed + 1] = int(copy.value.ver)
    closed[#closed + 1] = name
  end
end

-- The oldest closed names are forgotten beyond the bound; the floor then stands for their versions.
local dropped = {}
if #closed > 0 then
  local excess = math.min(redis.call('ZCARD', CLOSED) + #closed / 2 - CLOSED_MAX, DROPPED_MAX)
  if excess > 0 then
    local oldest = redis.call('ZRANGE', CLOSED, 0, excess - 1, 'WITHSCORES')
    for i = 1, #oldest, 2 do
      dropped[#dropped + 1] = oldest[i]
      floor = math.max(floor, tonumber(oldest[i + 1]))
    end
  end
end

local first = seq - #lines + 1
local event = table.concat({ 'B1', epoch, int(first), int(#lines), tag, TAG, int(now) }, ' ')
  .. '\n' .. table.concat(lines, '\n')

-- Write: what Redis refuses without memory first, then the rest, then the log, then the word to all.
redis.call('HSET', TABLE, '!s', int(seq), '!t', TAG, '!f', int(floor), unpack(sets))
if #dels > 0 then
  redis.call('HDEL', TABLE, unpack(dels))
end
if #dropped > 0 then
  redis.call('ZREM', CLOSED, unpack(dropped))
end
if #closed > 0 then
  redis.call('ZADD', CLOSED, unpack(closed))
end
if #opened > 0 then
  redis.call('ZREM', CLOSED, unpack(opened))
end
-- A log that is no stream, or whose last id is not before ours, is of no use to anybody.
local id = int(first) .. '-0'
local logged = redis.pcall('XADD', LOG, 'MAXLEN', '~', LOG_BATCHES, id, 'e', event)
if type(logged) == 'table' and logged.err then
  redis.call('DEL', LOG)
  redis.call('XADD', LOG, 'MAXLEN', '~', LOG_BATCHES, id, 'e', event)
end
redis.call(PUBLISH, CHANNEL, event)

reply[3], reply[4] = int(seq), TAG
return reply
