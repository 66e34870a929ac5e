local id, subject, ends_at = ARGV[1], ARGV[2], tonumber(ARGV[11])
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
-- First what is refused when memory is full: a script that has written already is not stopped.
redis.call('HSET', KEYS[1], 'current', ARGV[12])
for at, field in ipairs(RECORD) do redis.call('HSET', KEYS[1], field, ARGV[at + 1]) end
redis.call('EXPIREAT', KEYS[1], ends_at + LATE)
list(subject, id, ARGV[9], ends_at)
-- Sessions end unseen. Of those that were not used for longest, what is gone leaves the list.
for _, old in ipairs(redis.call('ZRANGE', KEYS[2], 0, 3)) do
    if redis.call('EXISTS', SESSION .. old) == 0 then redis.call('ZREM', KEYS[2], old) end
end
return 1
