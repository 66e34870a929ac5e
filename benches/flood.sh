#!/usr/bin/env bash
# What a flood of logins does to everybody else: `bash benches/flood.sh`. Needs curl and wrk (Debian has both).
#
# One program, `auth_server`, on loopback. A protected GET is measured from outside in turns: with nothing beside it, with one
# client that logs in all the time (one core's worth of hashing), and with a hundred that do so with wrong passwords. Limits on logins are
# set so wide that none is refused by them: what is measured is the pool of hashing threads.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-6}
cargo build --release --locked --example auth_server
folder=$(mktemp -d)
server='' flood=''
trap '[[ -z $flood ]] || kill "$flood"; [[ -z $server ]] || kill "$server"; rm -rf "$folder"' EXIT

LISTEN=127.0.0.1:0 LOGIN_PER_MINUTE=1000000 LOGIN_FAILURES=100 \
    USERS='[{"username":"alice","password":"correct horse battery staple","scopes":["me"]}]' \
    target/release/examples/auth_server >"$folder/out" 2>/dev/null &
server=$!
for _ in $(seq 100); do
    url=$(grep -om1 'http://127.0.0.1:[0-9]*' "$folder/out" || true)
    [[ -n $url ]] && curl -so /dev/null --max-time 1 "$url" && break
    sleep 0.1
done
sign_in=(-d grant_type=password -d username=alice --data-urlencode "password=correct horse battery staple")
token=$(curl -s "$url/token" "${sign_in[@]}" | sed 's/.*"access_token":"\([^"]*\)".*/\1/')

# A new name each time, so that no account's own limit is met.
cat >"$folder/login.lua" <<'LUA'
wrk.method = "POST"
wrk.headers["content-type"] = "application/x-www-form-urlencoded"
local number = 0
function init() math.randomseed(os.time() + os.clock() * 1000000) end
function request()
    number = number + 1
    return wrk.format(nil, nil, nil, "grant_type=password&password=wrong&username=u" .. number .. "-" .. math.random(1, 1000000000))
end
LUA

memory() { awk '/VmRSS/ { print int($2 / 1024) }' "/proc/$server/status"; }
get() { # label
    wrk -t1 -c8 "-d${seconds}s" --latency -H "Authorization: Bearer $token" "$url/users/me" >"$folder/wrk"
    local rate p99
    rate=$(awk '/Requests\/sec/ { print int($2) }' "$folder/wrk")
    p99=$(awk '$1 == "99%" { print $2 }' "$folder/wrk")
    grep -q 'Non-2xx' "$folder/wrk" && { echo "some were refused"; exit 1; }
    echo "$1 $rate $p99 $(memory)" | tee -a "$folder/all"
}
beside() { # connections
    wrk -t1 "-c$1" -d600s -s "$folder/login.lua" --timeout 10s "$url/token" >/dev/null 2>&1 &
    flood=$!
    sleep 1
}
quiet() { kill "$flood" && wait "$flood" 2>/dev/null || true; flood=''; sleep 1; }

echo "condition requests/s p99 MiB"
for _ in $(seq "$rounds"); do
    get nothing
    beside 1; get one; quiet
    beside 100; get hundred; quiet
done
echo
awk '
    function ms(text) { return text ~ /us$/ ? text / 1000 : text ~ /ms$/ ? text + 0 : text * 1000 }
    { rate[$1] = rate[$1] " " $2; late[$1] = late[$1] " " ms($3); if ($4 > most[$1]) most[$1] = $4 }
    function median(list,   n, at, other, part, swap) {
        n = split(list, part, " ")
        for (at = 1; at <= n; at++) for (other = at + 1; other <= n; other++)
            if (part[other] + 0 < part[at] + 0) { swap = part[at]; part[at] = part[other]; part[other] = swap }
        return part[int((n + 1) / 2)]
    }
    END {
        print "| beside the GET | requests/s | p99 | resident, most |\n|---|---|---|---|"
        split("nothing one hundred", order, " ")
        for (at = 1; at <= 3; at++) printf "| %s | %d | %.2f ms | %d MiB |\n", order[at], median(rate[order[at]]), median(late[order[at]]), most[order[at]]
        printf "hundred / one: throughput %.2f, p99 %.2f\n", median(rate["hundred"]) / median(rate["one"]), median(late["hundred"]) / median(late["one"])
    }' "$folder/all"
