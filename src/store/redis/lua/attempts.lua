-- Those for whom there is no room are counted together, by the first four digits of their digest.
local function others(key)
    local kind, start = string.match(key, ':(%d+):(%x%x%x%x)%x+$')
    return '{portcullis}:attempts:others:' .. kind .. ':' .. start
end

-- What is kept under a key, or under that of those it is counted with; and whether it is its own.
local function found(key)
    local kept = redis.call('GET', key)
    if kept then return key, kept, true end
    key = others(key)
    return key, redis.call('GET', key), false
end

-- The key to count under: new ones, so many in a day.
local function find(key, room)
    local kept = redis.call('GET', key)
    if kept then return key, kept end
    local new = '{portcullis}:attempts:new'
    local number = redis.call('INCR', new)
    if number == 1 then redis.call('EXPIRE', new, 86400) end
    if number <= room then return key, false end
    key = others(key)
    return key, redis.call('GET', key)
end

