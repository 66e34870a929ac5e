local now, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local new = (#ARGV - 2) / 2

if redis.call('ZCARD', KEYS[1]) + new > most then
    clear(now, 1000)
    if redis.call('ZCARD', KEYS[1]) + new > most then return 0 end
end
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
for at = 3, #ARGV, 2 do
    redis.call('ZADD', KEYS[1], micros, ARGV[at])
    redis.call('ZADD', KEYS[2], ARGV[at + 1], ARGV[at])
end
-- More than one for each, so that nothing is left over.
clear(now, 4 * new)
return 1
