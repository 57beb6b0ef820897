#!/usr/bin/env bash
# The public tests of Redis 7.0.15 (its tcl suite) against a Seawall server, a new one for each unit.
# What is skipped stands in `redis_suite.skipped` beside this script, with the reason; anything else that
# fails, fails.
#
#   tests/scripts/redis_suite.sh SOURCE [UNIT...]
#
# SOURCE is the unpacked source of Redis 7.0.15, of Debian for example: `apt-get source redis`. Only its
# tests are used, nothing is built; `tclsh` must be installed. Without units, all that this server is
# meant to pass are run. Exit code 0 means: all passed, or are named as skipped.
#
#   SEAWALL=PROGRAM   a `seawall` that is built already
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
source=$(cd "${1:?usage: redis_suite.sh SOURCE [UNIT...]}" && pwd)
shift
units=("$@")
if [ ${#units[@]} = 0 ]; then
    units=(type/string type/incr keyspace expire scan multi protocol quit info-command bitops bitfield)
fi

command -v tclsh >/dev/null || { echo "NOT RUN: there is no tclsh here" >&2; exit 2; }
if [ -z "${SEAWALL:-}" ]; then
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" --package seawall-cli --bin seawall
    SEAWALL=${CARGO_TARGET_DIR:-$root/target}/release/seawall
fi

work=$(mktemp -d)
server=
stop() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    server=
}
trap 'stop; rm -rf "$work"' EXIT

# Names alone: what is behind the hash sign is for people.
sed -e '/^#/d' -e '/^$/d' "$here/redis_suite.skipped" >"$work/skipped"

start() {
    : >"$work/said"
    "$SEAWALL" serve "$work/db-$1" --listen 127.0.0.1:0 >"$work/said" 2>&1 &
    server=$!
    until port=$(sed -n 's/^.*listening on 127\.0\.0\.1://p' "$work/said") && [ -n "$port" ]; do
        kill -0 "$server" || { cat "$work/said" >&2; exit 1; }
        sleep 0.05
    done
}

failed=()
for unit in "${units[@]}"; do
    printf '\n== %s\n' "$unit"
    start "${unit//\//-}"
    # Errors inside of a test are failures of that test, not the end of the unit (--durable).
    if ! (cd "$source" && tclsh tests/test_helper.tcl --host 127.0.0.1 --port "$port" --durable \
        --single "unit/$unit" --skipfile "$work/skipped" \
        --tags "-needs:debug -needs:repl -needs:config-maxmemory -large-memory"); then
        failed+=("$unit")
    fi
    kill -0 "$server" || { printf 'the server has ended:\n'; cat "$work/said"; failed+=("$unit: no server"); }
    stop
done

if [ ${#failed[@]} != 0 ]; then
    printf '\nFAILED: %s\n' "${failed[*]}" >&2
    exit 1
fi
printf '\nall units passed but for what %s names\n' "$here/redis_suite.skipped"
