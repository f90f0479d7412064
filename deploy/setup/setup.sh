#!/usr/bin/env bash
# Makes this machine ready to build the workspace. May be run at any time: what is there is left alone.
set -euo pipefail

# shellcheck source=deploy/setup/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
# shellcheck source=deploy/setup/output.sh
. "$LOCKSTEP_ROOT/deploy/setup/output.sh"
# shellcheck source=deploy/setup/packages.sh
. "$LOCKSTEP_ROOT/deploy/setup/packages.sh"
# shellcheck source=deploy/setup/estimate.sh
. "$LOCKSTEP_ROOT/deploy/setup/estimate.sh"
# shellcheck source=deploy/setup/rocksdb.sh
. "$LOCKSTEP_ROOT/deploy/setup/rocksdb.sh"
# shellcheck source=deploy/setup/rocksdb_release.sh
. "$LOCKSTEP_ROOT/deploy/setup/rocksdb_release.sh"
# shellcheck source=deploy/setup/rocksdb_source.sh
. "$LOCKSTEP_ROOT/deploy/setup/rocksdb_source.sh"

readonly DISK_MB_MIN=8000

fetch=""

warn_if_disk_is_short() {
    local free_mb
    free_mb="$(df -Pm "$LOCKSTEP_CACHE" | awk 'NR == 2 { print $4 }')"
    [ "$free_mb" -ge "$DISK_MB_MIN" ] ||
        say "warning: $free_mb MB free at $LOCKSTEP_CACHE; a first build, the tests and the lints take about $DISK_MB_MIN MB"
}

announce_first_build() {
    [ -d "$CARGO_BUILD_BUILD_DIR/debug/deps" ] && return
    warn_if_disk_is_short
    say "the first build compiles about 500 dependencies: 7 min on two cores, about 3 GB, in $CARGO_BUILD_BUILD_DIR"
}

# Fetches the crates while packages are installed. A failure is cargo's to report, when it wants them.
fetch_crates() {
    [ -d "$CARGO_BUILD_BUILD_DIR/debug/deps" ] && return
    begin_group cargo fetch --quiet --locked --manifest-path "$LOCKSTEP_ROOT/Cargo.toml" --target "$(rustc -vV | awk '/^host:/ { print $2 }')" \
        >"$LOCKSTEP_CACHE/fetch.log" 2>&1
    fetch=$group
}

await_crates() {
    [ -n "$fetch" ] || return 0
    if group_runs "$fetch"; then say "fetching crates"; fi
    await_group "$fetch" || say "crates were not fetched; cargo tries again"
}

main() {
    # A path of the loader's ends at a colon.
    case "$LOCKSTEP_CACHE" in *:*) fail "LOCKSTEP_CACHE=$LOCKSTEP_CACHE has a colon in it" "Name a directory without." ;; esac
    mkdir -p "$LOCKSTEP_CACHE"
    require_rust
    fetch_crates
    require_compiler
    require_libclang
    require_rocksdb
    place_rocksdb
    announce_first_build
    await_crates
}

main
