-- GET with another token each time: `wrk … -s tokens.lua URL -- FILE COUNT|once|again`. With a count, the first so many lines of
-- the file in turn, kept in memory. Otherwise all lines, read as they are needed; if they run out, `once` ends with an error.
dofile(os.getenv("LOAD_LUA") .. "/report.lua")

local head, tail, tokens, at, file, again

function init(args)
    head = "GET " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port .. "\r\nAuthorization: Bearer "
    tail = "\r\n\r\n"
    file, again = assert(io.open(args[1])), args[2] == "again"
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
    local token = file:read("*l")
    if not token and again then
        file:seek("set")
        token = file:read("*l")
    end
    return head .. assert(token, "no tokens are left") .. tail
end
