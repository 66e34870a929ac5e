local key = found(KEYS[1])
return redis.call('DEL', key)
