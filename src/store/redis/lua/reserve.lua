-- What `Quota::take` and `Lockout::begin` say. Nothing is counted before all of it is granted.
local now, quotas = tonumber(ARGV[1]), tonumber(ARGV[2])
local micros, told, counted = now * 1000000, { 0 }, {}

local function keep(key, after)
    redis.call('SET', key, string.format('%.0f', after), 'EX', math.ceil((after - micros) / 1000000) + 60)
end

for at = 1, quotas do
    local interval, most = tonumber(ARGV[2 * at + 1]), tonumber(ARGV[2 * at + 2])
    local whole = interval * most
    local kept = tonumber(redis.call('GET', KEYS[at]) or 0)
    local from = math.min(math.max(kept, micros), micros + whole)
    local left = micros + whole - from - interval
    if left < 0 then
        if from < kept then keep(KEYS[at], from) end
        return { at, -left }
    end
    told[at + 1], counted[at] = math.floor(left / interval), from + interval
end
if KEYS[quotas + 1] then
    local free, first, longest, window, most, remembered, room = unpack(ARGV, 2 * quotas + 3, 2 * quotas + 9)
    free, first, longest, window = tonumber(free), tonumber(first), tonumber(longest), tonumber(window)
    local lock, kept = find(KEYS[quotas + 1], tonumber(room))
    local recent, in_a_row, last, since, wait = 0, 0, 0, now, 0
    if kept then
        recent, in_a_row, last = string.match(kept, '^(%d+) (%d+) (%d+) %d+$')
        recent, in_a_row, last = tonumber(recent), tonumber(in_a_row), tonumber(last)
        if last > now then
            -- The clock was set back.
            last = now
            redis.call('SET', lock, string.format('%d %d %.0f %.0f', recent, in_a_row, now, now), 'KEEPTTL')
        end
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
    recent, in_a_row = recent + 1, in_a_row + 1
    -- Three failures a day are ninety a month: fewer than the hundred that may be in a row, so that they need no month.
    local stays = remembered
    if in_a_row <= 3 then stays = math.max(window, 86400) end
    redis.call('SET', lock, string.format('%d %d %.0f %.0f', recent, in_a_row, now, last), 'EX', stays + LATE)
end
for at = 1, quotas do keep(KEYS[at], counted[at]) end
return told
