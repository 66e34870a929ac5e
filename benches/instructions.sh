#!/usr/bin/env bash
# Instructions of one operation of benches/verify.rs, counted by callgrind (Debian's package valgrind).
# The difference between 1,100 and 100 runs leaves out everything that happens once.
set -euo pipefail
cd "$(dirname "$0")/.."
bench=$(cargo bench --bench verify --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p')
counted() { # algorithm, operation, runs
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench" --run "$1" "$2" "$3" 2>&1 |
        sed -n 's/.*Collected : //p'
}
printf '%-8s %-36s %12s\n' algorithm operation instructions
for algorithm in HS256 RS256 PS256 ES256 EdDSA; do
    for operation in "empty service" "bare check" "full stack" "jsonwebtoken decode" "full stack, seen" "full stack, seen, counted" \
        "full stack, seen, audited" "full stack, seen, audited, counted" "bare sign" "sign"; do
        many=$(counted "$algorithm" "$operation" 1100)
        few=$(counted "$algorithm" "$operation" 100)
        printf '%-8s %-36s %12s\n' "$algorithm" "$operation" $(((many - few) / 1000))
    done
done
