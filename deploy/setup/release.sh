#!/usr/bin/env bash
# Builds the program to ship, target/release/lockstep: one file, with RocksDB and the C++ library in it. What it needs of a
# machine is glibc.
set -euo pipefail

# Whatever library this shell was told of: what ships is made of the source that Cargo.lock pins.
unset ROCKSDB_LIB_DIR ROCKSDB_STATIC
export LOCKSTEP_ROCKSDB=source
SETUP="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
readonly SETUP
# shellcheck source=deploy/setup/output.sh
. "$SETUP/output.sh"

# The libraries that a program wants at its start.
needs() { ldd "$1" | awk '{ print $1 }' | sed 's|.*/||' | grep -v '^linux-vdso' | sort | tr '\n' ' '; }

main() {
    local start=$SECONDS program
    "$SETUP/setup.sh"
    # Not before, because the environment follows from what setup put there.
    # shellcheck source=deploy/setup/env.sh
    . "$SETUP/env.sh"
    say "building the release: 10 min on two cores the first time, in a profile of its own"
    cargo build --workspace --locked --release --bin lockstep
    program="$CARGO_TARGET_DIR/release/lockstep"
    case "$(needs "$program")" in
    *rocksdb* | *stdc++*) fail "$program is not one program; it needs: $(needs "$program")" ;;
    esac
    say "$program, $(size_of "$program"), $("$program" --version), needs $(needs "$program")after $(elapsed $((SECONDS - start)))"
}

main
