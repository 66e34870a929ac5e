-- What `Quota::give_back` and `Lockout::take_back` say.
local now, quotas = tonumber(ARGV[1]), tonumber(ARGV[2])
for at = 1, quotas do
    local kept = redis.call('GET', KEYS[at])
    if kept then
        local rest = tonumber(kept) - tonumber(ARGV[2 * at + 1])
        if rest > now * 1000000 then
            redis.call('SET', KEYS[at], string.format('%.0f', rest), 'KEEPTTL')
        else
            redis.call('DEL', KEYS[at])
        end
    end
end
if not KEYS[quotas + 1] then return 0 end
local lock, kept, alone = found(KEYS[quotas + 1])
if not kept then return 0 end
if alone and ARGV[#ARGV] == '1' then return redis.call('DEL', lock) end
local recent, in_a_row, _, before = string.match(kept, '^(%d+) (%d+) (%d+) (%d+)$')
recent, in_a_row = math.max(recent - 1, 0), math.max(in_a_row - 1, 0)
if in_a_row == 0 and recent == 0 then return redis.call('DEL', lock) end
redis.call('SET', lock, string.format('%d %d %s %s', recent, in_a_row, before, before), 'KEEPTTL')
return 1
