local now, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local found, from = {}, 0
while #found < most do
    local ids = redis.call('ZREVRANGE', KEYS[1], from, from + most - 1)
    if #ids == 0 then break end
    for _, id in ipairs(ids) do
        local fields = #found < most and record(id, now)
        if fields then found[#found + 1] = { 'listed', id, unpack(fields) } end
    end
    from = from + #ids
end
return found
