#!/usr/bin/env bash
# The proof on real input: a distribution's package index and a documentation tree become one sorted
# ndjson file; `seawall load --resume` takes it and is killed ten times on the way; then `seawall dump`
# must give the same bytes back, and `seawall verify` must find nothing. A key or value longer than a
# database takes would be left out of the file, and counted; none of these sources has one.
#
#   tests/scripts/real_input.sh [FOLDER]
#
# FOLDER (target/real-input unless given) takes the input and the database, together about three times
# the size of the sources; what an earlier run left there is replaced. Needs about 4 GB of disk and two
# minutes with the whole of the sources named below. Exit code 0 means: proved.
#
#   SEAWALL_KILLS=N      kills, 10 unless given
#   SEAWALL_SEED=N       draws the moments of the kills; random unless given
#   SEAWALL_INDEX=FILE   a package index in Debian's format, instead of `apt-cache dumpavail`
#   SEAWALL_DOCS=DIR     a folder, instead of the documentation of the Rust toolchain
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
kills=${SEAWALL_KILLS:-10}
seed=${SEAWALL_SEED:-$RANDOM}
target=${CARGO_TARGET_DIR:-$root/target}
work=${1:-$target/real-input}
TIMEFORMAT='took                 %R s'

step() { printf '\n== %s\n' "$*"; }
fail() { printf '\nNOT PROVED: %s\n' "$*" >&2; exit 1; }
row() { printf '%-21s%s\n' "$@"; }
sum() { sha256sum "$@" | cut -d ' ' -f 1; }

step build
cargo build --quiet --release --manifest-path "$root/Cargo.toml" \
    --package seawall-cli --bin seawall --package seawall-tests --bin real_input
seawall=$target/release/seawall
real_input=$target/release/real_input

step input
mkdir -p "$work"
index=${SEAWALL_INDEX:-$work/packages}
docs=${SEAWALL_DOCS:-$(rustc --print sysroot)/share/doc}
input=$work/input.ndjson
db=$work/db
rm -rf "$db" "$input"
if [ -z "${SEAWALL_INDEX:-}" ]; then
    command -v apt-cache >/dev/null || fail "there is no apt-cache here: name a saved index with SEAWALL_INDEX"
    apt-cache dumpavail >"$index" || fail "apt-cache dumpavail failed"
fi
[ -s "$index" ] || fail "the package index is empty: fill it with: apt-get update"
if [ -z "${SEAWALL_DOCS:-}" ] && ! [ -d "$docs/rust/html" ]; then
    printf 'THE DOCUMENTATION IS NOT INSTALLED in %s; trying: rustup component add rust-docs\n' "$docs" >&2
    timeout 300 rustup component add rust-docs || true
fi
if [ -z "${SEAWALL_DOCS:-}" ] && ! [ -d "$docs/rust/html" ]; then
    fail "there is no documentation in $docs, and it cannot be had: name another folder with SEAWALL_DOCS"
fi
time timeout 600 "$real_input" make "$input" "$index" "$docs"
pairs=$(wc -l <"$input")
row 'input bytes' "$(stat -c %s "$input")"

step "load, killed $kills times (seed $seed)"
time timeout 1800 "$real_input" kill "$seawall" "$input" "$db" "$kills" "$seed"

step 'load, to its end'
time timeout 1800 "$seawall" load "$db" "$input" --format ndjson --resume
again=$(timeout 60 "$seawall" load "$db" "$input" --format ndjson --resume --json 2>/dev/null)
case $again in
    '{"pairs":0,"pairs_before":'"$pairs"',"input_bytes":0,'*) row 'once more' 'nothing was left to load' ;;
    *) fail "a complete load of $pairs pairs, run once more, says: $again" ;;
esac

step dump
before=$(sum "$input")
time after=$(timeout 1800 "$seawall" dump "$db" --format ndjson | sum)
row 'sha256 of the input' "$before"
row 'sha256 of the dump' "$after"
[ "$before" = "$after" ] || fail 'the dump differs from the input'

step verify
time verified=$(timeout 1800 "$seawall" verify "$db" --json) || fail "verify: ${verified:-failed}"
row 'verify' "$verified"
case $verified in
    *'"findings":[]'*) ;;
    *) fail 'verify has findings' ;;
esac

printf '\nPROVED: %s pairs, %s kills, the same bytes back\n' "$pairs" "$kills"
