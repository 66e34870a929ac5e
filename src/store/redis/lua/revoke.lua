local subject = redis.call('HGET', KEYS[1], 'subject')
if not subject then return 0 end
forget(subject, ARGV[1])
return 1
