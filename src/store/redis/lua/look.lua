local id, token, now = ARGV[1], ARGV[2], tonumber(ARGV[3])
local found = record(id, now)
if not found then return false end
local standing = 'foreign'
if redis.call('HGET', KEYS[1], 'current') == token then
    standing = 'current'
elseif redis.call('SISMEMBER', KEYS[2], token) == 1 then
    standing = 'spent'
end
return { standing, id, unpack(found) }
