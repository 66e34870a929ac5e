-- Every key is in one slot of a cluster, because of its tag.
local SESSION, SPENT, SUBJECT = '{portcullis}:session:', '{portcullis}:spent:', '{portcullis}:subject:'
-- Machines' clocks differ, and only `now`, which callers bring, says what is over: keys stay an hour longer, in seconds.
local LATE = 3600

local RECORD = {
    'subject', 'client_id', 'scope', 'audience', 'label', 'network', 'auth_time', 'last_used', 'expires_at', 'ends_at'
}

-- What `RECORD` names, of a session that has not ended.
local function record(id, now)
    local fields = redis.call('HMGET', SESSION .. id, unpack(RECORD))
    if fields[1] and now < tonumber(fields[10]) then return fields end
    return nil
end

-- Notes when a session of a subject was used last, and keeps the list for as long as its longest session.
local function list(subject, id, last_used, ends_at)
    local key = SUBJECT .. subject
    redis.call('ZADD', key, last_used, id)
    local left = redis.call('TTL', key)
    if left < 0 or redis.call('TIME')[1] + left < ends_at + LATE then
        redis.call('EXPIREAT', key, ends_at + LATE)
    end
end

local function forget(subject, id)
    redis.call('ZREM', SUBJECT .. subject, id)
    return redis.call('DEL', SESSION .. id, SPENT .. id)
end

local NOTED, ENDS = '{portcullis}:revocations', '{portcullis}:revocations:ends'

-- Forgets revocations that have run out, so many at the most.
local function clear(now, number)
    for _, over in ipairs(redis.call('ZRANGEBYSCORE', ENDS, '-inf', now - LATE, 'LIMIT', 0, number)) do
        redis.call('ZREM', NOTED, over)
        redis.call('ZREM', ENDS, over)
    end
end

-- Notes that a session's tokens are called back. `till` stays the text that it came as. More than one is cleared for each, so
-- that nothing is left over.
local function call_back(id, till, now)
    local member = '["session","' .. id .. '",0,' .. till .. ']'
    local time = redis.call('TIME')
    redis.call('ZADD', NOTED, time[1] * 1000000 + time[2], member)
    redis.call('ZADD', ENDS, till, member)
    clear(now, 4)
end
