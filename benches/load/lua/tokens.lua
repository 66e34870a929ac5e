-- GET with another token each time: `wrk … -s tokens.lua URL -- FILE [COUNT]`. With a count, the first so many lines of the
-- file in turn, kept in memory; without, all lines once, read as they are needed, and it ends with an error if they run out.
dofile(os.getenv("LOAD_LUA") .. "/report.lua")

local head, tail, tokens, at, file

function init(args)
    head = "GET " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port .. "\r\nAuthorization: Bearer "
    tail = "\r\n\r\n"
    file = assert(io.open(args[1]))
    local count = tonumber(args[2])
    if not count then return end
    tokens, at = {}, 0
    for number = 1, count do tokens[number] = head .. assert(file:read("*l"), "too few tokens") .. tail end
end

function request()
    if tokens then
        at = at % #tokens + 1
        return tokens[at]
    end
    return head .. assert(file:read("*l"), "no tokens are left") .. tail
end
