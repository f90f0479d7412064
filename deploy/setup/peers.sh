#!/usr/bin/env bash
# The programs that a devnet runs beside ours, built once per machine: op-node, op-batcher, op-conductor, op-geth and the
# genesis tool from deploy/peers/go.mod, anvil from deploy/peers/package-lock.json. May be run at any time: what is there is
# left alone.
# `--are-there` only answers, by its exit code; `--tools` only installs what they are built with.
set -euo pipefail

# shellcheck source=deploy/setup/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
# shellcheck source=deploy/setup/output.sh
. "$LOCKSTEP_ROOT/deploy/setup/output.sh"
# shellcheck source=deploy/setup/estimate.sh
. "$LOCKSTEP_ROOT/deploy/setup/estimate.sh"
# shellcheck source=deploy/setup/packages.sh
. "$LOCKSTEP_ROOT/deploy/setup/packages.sh"
# shellcheck source=deploy/setup/go.sh
. "$LOCKSTEP_ROOT/deploy/setup/go.sh"

readonly SOURCES="$LOCKSTEP_ROOT/deploy/peers"
readonly OPTIMISM="github.com/ethereum-optimism/optimism"
readonly PEERS=(op-node op-batcher op-conductor op-geth genesis anvil)
# The predeploys of the L2 genesis, in the optimism module.
readonly ALLOCS="op-deployer/pkg/deployer/integration_test/testdata/allocs-l2-v160-1.json.gz"
readonly PEERS_DISK_MB_MIN=3000
# Lines that Go writes where it has compiled nothing before: modules asked for, packages compiled.
readonly GO_LINES=2800

# The Go package of a program.
package_of() {
    case "$1" in
    op-geth) echo github.com/ethereum/go-ethereum/cmd/geth ;;
    genesis) echo ./genesis ;;
    *) echo "$OPTIMISM/$1/cmd" ;;
    esac
}

# The programs that are not in a directory.
missing_in() {
    local name missing=()
    for name in "${PEERS[@]}"; do [ -x "$1/$name" ] || missing+=("$name"); done
    echo "${missing[*]}"
}

are_there() { [ -z "$(missing_in "$LOCKSTEP_PEERS")" ]; }

# What the programs are built with, and room for them.
require_tools() {
    case "$LOCKSTEP_PEERS" in
    "$LOCKSTEP_CACHE"/peers-*) ;;
    *) fail "LOCKSTEP_PEERS=$LOCKSTEP_PEERS lacks: $(missing_in "$LOCKSTEP_PEERS")" \
        "Put them there, or unset LOCKSTEP_PEERS to have them built." ;;
    esac
    warn_if_disk_is_short
    require_go
    require_npm
}

# Runs a function as the only setup on this machine that does something for these programs.
alone() {
    mkdir -p "$LOCKSTEP_CACHE"
    exec 9>"$LOCKSTEP_CACHE/peers.lock"
    flock --nonblock 9 || {
        say "another setup on this machine is building op-node and the others; waiting for it"
        flock 9
    }
    "$@"
    flock --unlock 9
}

require_peers() {
    if ! are_there; then
        require_tools
        build_peers "$(dirname "$LOCKSTEP_PEERS")"
    fi
}

build_peers() {
    local place="$1" work="$1.work" start=$SECONDS
    say "building op-node, op-batcher, op-conductor and op-geth and fetching anvil, once for this machine: 4 min on two idle"
    say "cores (20 s where Go has compiled them before), 270 MB in $place, 2 GB in Go's own caches"
    rm -rf "$work" "$place"
    mkdir -p "$work/bin" "$work/share"
    expect peers
    fetch_anvil "$work"
    fetch_modules "$work"
    build_programs "$work"
    copy_allocs "$work"
    rm -rf "$work"/*.log "$work/npm"
    mv "$work" "$place"
    say "the programs are in $place/bin ($(size_of "$place")), after $(elapsed $((SECONDS - start)))"
}

warn_if_disk_is_short() {
    local free_mb
    free_mb="$(df -Pm "$LOCKSTEP_CACHE" | awk 'NR == 2 { print $4 }')"
    [ "$free_mb" -ge "$PEERS_DISK_MB_MIN" ] ||
        say "warning: $free_mb MB free at $LOCKSTEP_CACHE; about $PEERS_DISK_MB_MIN MB are needed"
}

require_npm() {
    command -v npm >/dev/null && return
    install_packages npm || fail "there is no npm on the PATH; anvil comes by it" "As root: apt-get update && apt-get install -y npm"
}

# The package of the native program. Foundry's own `anvil` package is a script of node, which a kill ends without its child.
fetch_anvil() {
    local work="$1" native
    say "fetching anvil"
    mkdir "$work/npm"
    cp "$SOURCES/package.json" "$SOURCES/package-lock.json" "$work/npm"
    watched "$work/npm.log" anvil "lines of npm" npm --prefix "$work/npm" ci --ignore-scripts --no-audit --no-fund
    native="$(find "$work/npm/node_modules" -path '*/bin/anvil' -type f -print -quit)"
    [ -n "$native" ] || fail "npm has no anvil for this machine ($(uname -sm))"
    install -m 755 "$native" "$work/bin/anvil"
    "$work/bin/anvil" --version >"$work/anvil.log" 2>&1 || {
        cat "$work/anvil.log" >&2
        fail "anvil does not run here"
    }
}

# Runs a command with its output in a log, whose lines show how far it is: `watched LOG WHAT LINES COMMAND…`.
watched() {
    local log="$1" what="$2" lines="$3"
    shift 3
    : >"$log"
    begin_group "$@" >"$log.out" 2>"$log"
    while group_runs "$group"; do
        show_progress "$(dirname "$log")" "$what: $(wc -l <"$log") $lines"
        sleep 1
    done
    progress_end
    await_group "$group" && return
    tail -n 30 "$log" "$log.out" >&2
    fail "this failed: $*" "the whole log: $log"
}

in_go() {
    watched "$1" "$2" "$3" env --chdir="$SOURCES" GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 \
        GOFLAGS="-mod=readonly -buildvcs=false -trimpath" "$GO" "${@:4}"
}

# How far it is by the lines in all logs; in percent and words for a script that runs this one in the background.
show_progress() {
    local percent
    percent=$(($(cat "$1"/*.log | wc -l) * 100 / GO_LINES))
    percent=$((percent < 99 ? percent : 99))
    reach peers "$percent"
    estimate
    progress "$2; $remaining"
    [ -n "${PEERS_PROGRESS:-}" ] || return 0
    echo "$percent $2" >"$PEERS_PROGRESS.new"
    mv "$PEERS_PROGRESS.new" "$PEERS_PROGRESS"
}

fetch_modules() {
    local work="$1" name packages=()
    for name in "${PEERS[@]}"; do [ "$name" = anvil ] || packages+=("$(package_of "$name")"); done
    say "fetching Go modules"
    in_go "$work/modules.log" "Go modules" requests list -x -deps "${packages[@]}"
}

build_programs() {
    local work="$1" name
    for name in "${PEERS[@]}"; do
        [ "$name" != anvil ] || continue
        say "building $name"
        in_go "$work/$name.log" "$name" packages build -v -ldflags "-s -w" -o "$work/bin/$name" "$(package_of "$name")"
    done
}

copy_allocs() {
    local work="$1"
    in_go "$work/allocs.log" predeploys requests list -m -f '{{.Dir}}' "$OPTIMISM"
    install -m 644 "$(cat "$work/allocs.log.out")/$ALLOCS" "$work/share/l2-allocs.json.gz"
}

case "${1:-}" in
--are-there) are_there ;;
--tools) are_there || alone require_tools ;;
*) are_there || alone require_peers ;;
esac
