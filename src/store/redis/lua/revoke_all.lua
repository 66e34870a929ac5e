local subject, except = ARGV[1], ARGV[2]
local ended = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    if id ~= except and forget(subject, id) > 0 then ended[#ended + 1] = id end
end
return ended
