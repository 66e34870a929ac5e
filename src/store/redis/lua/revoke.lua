-- First what is refused when memory is full.
call_back(ARGV[1], ARGV[2], tonumber(ARGV[3]))
local subject = redis.call('HGET', KEYS[1], 'subject')
if not subject then return 0 end
forget(subject, ARGV[1])
return 1
