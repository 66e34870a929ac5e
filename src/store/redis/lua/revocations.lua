local cursor, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
-- Scripts run one after another, but the clock may be set back, or be another machine's after a failover. A cursor goes back
-- by a minute; one from the future goes back to the start.
local from = 0
if cursor <= micros then from = cursor - 60000000 end
if redis.call('ZCOUNT', KEYS[1], from, '+inf') > most then return false end
return { string.format('%.0f', micros), redis.call('ZRANGEBYSCORE', KEYS[1], from, '+inf') }
