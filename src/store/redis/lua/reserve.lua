-- What `Quota::take` and `Lockout::begin` say. Nothing is written before all of it is granted.
local now, quotas = tonumber(ARGV[1]), tonumber(ARGV[2])
local micros, told, counted = now * 1000000, { 0 }, {}
for at = 1, quotas do
    local interval, most = tonumber(ARGV[2 * at + 1]), tonumber(ARGV[2 * at + 2])
    local whole = interval * most
    local from = tonumber(redis.call('GET', KEYS[at]) or 0)
    local after = math.min(math.max(from, micros), micros + whole) + interval
    local left = micros + whole - after
    if left < 0 then return { at, -left } end
    told[at + 1], counted[at] = math.floor(left / interval), after
end
local lock, recent, in_a_row = KEYS[quotas + 1], 0, 0
if lock then
    local free, first, longest, window, most, remembered = unpack(ARGV, 2 * quotas + 3, 2 * quotas + 8)
    free, first, longest, window = tonumber(free), tonumber(first), tonumber(longest), tonumber(window)
    local last, since, wait = now, 0, 0
    local kept = redis.call('GET', lock)
    if kept then
        recent, in_a_row, last = string.match(kept, '^(%d+) (%d+) (%d+)$')
        recent, in_a_row, last = tonumber(recent), tonumber(in_a_row), math.min(tonumber(last), now)
        since = now - last
    end
    if since >= window then recent = 0 end
    if since >= tonumber(remembered) then in_a_row = 0 end
    if in_a_row >= tonumber(most) then
        wait = tonumber(remembered)
    elseif recent >= free then
        -- Beyond 2^31 the doubled wait is the longest in any case.
        wait = math.min(first * 2 ^ math.min(recent - free, 31), longest, window)
    end
    if since < wait then return { quotas + 1, (wait - since) * 1000000 } end
    redis.call('SET', lock, string.format('%d %d %.0f', recent + 1, in_a_row + 1, now), 'EX', remembered + LATE)
end
for at = 1, quotas do
    local ends = math.ceil((counted[at] - micros) / 1000000)
    redis.call('SET', KEYS[at], string.format('%.0f', counted[at]), 'EX', ends + 60)
end
return told
