-- Begins a new epoch of a fleet's table: where there is none, or where the caller knows its history to have forked.
--
-- KEYS: table (hash), closed (sorted set: name -> version), log (stream).
-- ARGV: channel, the epoch that the caller knows ('' for none), its seq, the new epoch, the new tag,
--       deadline in ms (0: none), PUBLISH or SPUBLISH, format version.
-- Answer: code, epoch, seq, tag, now in ms. OK: begun. EPOCH: another caller was first. EXPIRED: too late.
--
-- The versions of the new epoch begin 2^20 above all that Redis or the caller knew, so that no host ever shows a lower
-- one than it showed before, even if some host saw more than the caller.
local TABLE, CLOSED, LOG = KEYS[1], KEYS[2], KEYS[3]
local unpack = table.unpack or unpack
local CHANNEL, OLD, SEQ, NEW, TAG, DEADLINE, PUBLISH, FORMAT = unpack(ARGV, 1, 8)

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function int(number)
  return string.format('%.0f', number)
end

local function num(text)
  local number = text and #text <= 16 and string.match(text, '^%d+$') and tonumber(text)
  return number and number <= 9007199254740992 and number or nil
end

local head = redis.call('HMGET', TABLE, '!e', '!s', '!t', '!f')
local epoch, seq, tag, floor = head[1], num(head[2] or ''), head[3], num(head[4] or '') or 0

-- A head that cannot be read is no epoch: nobody could ever write under it again.
local readable = epoch and seq and tag and string.match(epoch, '^%x+$') and #epoch == 16
  and string.match(tag, '^%x+$') and #tag == 8

if readable and epoch ~= OLD then
  return { 'EPOCH', epoch, int(seq), tag, int(now) }
end
if DEADLINE ~= '0' and now > (num(DEADLINE) or 0) then
  return { 'EXPIRED', epoch or '', int(seq or 0), tag or '', int(now) }
end

local start = math.max(seq or 0, num(SEQ) or 0) + 1048576
local event = table.concat({ 'E1', NEW, int(start), TAG, int(now), OLD == '' and '-' or OLD }, ' ')

redis.call('HSET', TABLE, '!e', NEW, '!s', int(start), '!t', TAG, '!f', int(floor), '!v', FORMAT)
-- No batch of the old epoch chains onto the new one, whose log begins with this event.
redis.call('DEL', LOG)
redis.call('XADD', LOG, int(start) .. '-0', 'e', event)
redis.call(PUBLISH, CHANNEL, event)

return { 'OK', NEW, int(start), TAG, int(now) }
