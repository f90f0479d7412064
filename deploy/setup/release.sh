#!/usr/bin/env bash
# Builds the program to ship, target/release/lockstep: one file, with RocksDB and the C++ library in it. What it needs of a
# machine is glibc.
set -euo pipefail

# Whatever library this shell was told of: what ships is made of the source that Cargo.lock pins.
unset ROCKSDB_LIB_DIR ROCKSDB_STATIC
export LOCKSTEP_ROCKSDB=source
# shellcheck source=deploy/setup/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
# shellcheck source=deploy/setup/output.sh
. "$LOCKSTEP_ROOT/deploy/setup/output.sh"

readonly PROGRAM="$CARGO_TARGET_DIR/release/lockstep"

# The libraries that a program wants at its start.
needs() { ldd "$1" | awk '{ print $1 }' | sed 's|.*/||' | grep -v '^linux-vdso' | sort | tr '\n' ' '; }

main() {
    local start=$SECONDS
    "$LOCKSTEP_ROOT/deploy/setup/setup.sh"
    say "building the release: 10 min on two cores the first time, in a profile of its own"
    cargo build --workspace --locked --release --bin lockstep
    case "$(needs "$PROGRAM")" in
    *rocksdb* | *stdc++*) fail "$PROGRAM is not one program; it needs: $(needs "$PROGRAM")" ;;
    esac
    say "$PROGRAM, $(size_of "$PROGRAM"), $("$PROGRAM" --version), needs $(needs "$PROGRAM")after $(elapsed $((SECONDS - start)))"
}

main
