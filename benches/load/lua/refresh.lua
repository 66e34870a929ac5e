-- Each thread turns a refresh token of its own, over and over; as many connections as threads. Tokens to begin with are in
-- LOAD_CHAINS, between commas.
dofile(os.getenv("LOAD_LUA") .. "/report.lua")

local chains, given = {}, 0
for token in os.getenv("LOAD_CHAINS"):gmatch("[^,]+") do chains[#chains + 1] = token end

function setup(thread)
    given = given + 1
    -- Without a second argument: wrk takes the last one for the value.
    thread:set("chain", chains[given])
end

local head

function init(args)
    head = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port
        .. "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "
end

function request()
    local body = "grant_type=refresh_token&refresh_token=" .. chain
    return head .. #body .. "\r\n\r\n" .. body
end

function response(status, headers, body)
    -- After a refusal the chain has ended; the next one is refused, too, and counted.
    chain = body:match('"refresh_token":"([^"]+)"') or chain
end
