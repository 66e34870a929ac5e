local subject, except, till, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local ended = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    if id ~= except then
        -- First what is never refused, as in `revoke`.
        local found = forget(subject, id)
        call_back(id, till, now)
        if found > 0 then ended[#ended + 1] = id end
    end
end
return ended
