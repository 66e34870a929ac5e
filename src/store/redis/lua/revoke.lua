local subject, ended = redis.call('HGET', KEYS[1], 'subject'), 0
-- First what is never refused: a script that has written already is not stopped when memory is full.
if subject then
    forget(subject, ARGV[1])
    ended = 1
else
    redis.call('DEL', KEYS[1])
end
call_back(ARGV[1], ARGV[2], tonumber(ARGV[3]))
return ended
