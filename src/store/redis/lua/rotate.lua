-- What `Family::decide` says.
local id, presented, successor, sealed = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local grace, ends_at, now = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local found = redis.call('HMGET', KEYS[1], 'subject', 'current', 'previous', 'turned_at', 'ends_at', 'sealed')
if not found[1] or now >= tonumber(found[5]) then return { 'unknown' } end
if found[2] == presented then
    redis.call('HSET', KEYS[1], 'current', successor, 'previous', presented, 'sealed', sealed,
        'turned_at', ARGV[7], 'last_used', ARGV[7], 'ends_at', ARGV[6])
    redis.call('SADD', KEYS[2], presented)
    redis.call('EXPIREAT', KEYS[1], ends_at + LATE)
    redis.call('EXPIREAT', KEYS[2], ends_at + LATE)
    list(found[1], id, ARGV[7], ends_at)
    return { 'turned' }
end
if found[3] == presented and grace > 0 and now < tonumber(found[4]) + grace then return { 'again', found[6] } end
if redis.call('SISMEMBER', KEYS[2], presented) == 1 then
    -- First what is never refused, as in `revoke`.
    forget(found[1], id)
    call_back(id, ARGV[8], now)
    return { 'reused' }
end
return { 'unknown' }
