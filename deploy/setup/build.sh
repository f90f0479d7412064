#!/usr/bin/env bash
# Builds the `lockstep` program, after what this machine lacks for it; with `--tests` the tests, too, with `--peers` also the
# programs that a devnet runs beside ours.
#
# Those are built beside cargo at the lowest priority: they take what cargo leaves of the processors. In a clone's first build
# a line says how many minutes are left; later, cargo speaks for itself.
set -euo pipefail

SETUP="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
readonly SETUP
# shellcheck source=deploy/setup/output.sh
. "$SETUP/output.sh"
# shellcheck source=deploy/setup/estimate.sh
. "$SETUP/estimate.sh"

# Columns of cargo's bar. It is read here and not shown.
readonly BAR_COLUMNS=80
# What cargo says of single crates: words that end in its twelfth column. It is not shown.
readonly CRATE_LINE='^( {3}Compiling| Downloading| {2}Downloaded| {4}Updating| {4}Finished| {2}Executable) '

# Logs of what runs here, and how far `peers.sh` is. Gone when all was well.
work="" peers="" peers_done="op-node and the others: nothing yet"
cargo_done="nothing yet" cargo_failed=false unread=""

main() {
    local option parts=(build) with_peers=false part
    for option in "$@"; do
        case "$option" in
        --tests) parts+=(tests) ;;
        --peers) with_peers=true ;;
        *) fail "unknown option $option" "Known are --tests and --peers." ;;
        esac
    done
    "$SETUP/setup.sh"
    # Not before, because the environment follows from what setup put there.
    # shellcheck source=deploy/setup/env.sh
    . "$SETUP/env.sh"
    find "$LOCKSTEP_CACHE" -maxdepth 1 -name 'build.*' -mtime +1 -exec rm -rf {} +
    work="$(mktemp -d "$LOCKSTEP_CACHE/build.XXXXXX")"
    if $with_peers; then start_peers; fi
    for part in "${parts[@]}"; do was_built "$part" || expect "$part"; done
    [ -z "$peers" ] || expect peers
    for part in "${parts[@]}"; do build "$part"; done
    [ -z "$peers" ] || await_peers
    rm -rf "$work"
}

# Once this clone was built, cargo needs no estimate.
was_built() { [ -e "$(mark_of "$1")" ] && [ -d "$CARGO_BUILD_BUILD_DIR/debug/deps" ]; }
mark_of() { echo "$CARGO_TARGET_DIR/lockstep-$1-done"; }

build() {
    if was_built "$1"; then
        # What changed of the tests `cargo test` builds by itself.
        [ "$1" != build ] || cargo build --workspace --locked
        work_start=$SECONDS
        return
    fi
    case "$1" in
    build) cargo_estimated build build ;;
    tests) cargo_estimated tests test --no-run ;;
    esac
    reach "$1" 100
    mkdir -p "$CARGO_TARGET_DIR"
    touch "$(mark_of "$1")"
}

# Runs cargo with its bar made into minutes left: `cargo_estimated PART COMMAND…`.
cargo_estimated() {
    local part="$1" log="$work/$1.log" cargo
    shift
    : >"$log"
    CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=always CARGO_TERM_PROGRESS_WIDTH=$BAR_COLUMNS \
        begin_group cargo "$@" --workspace --locked >"$log" 2>&1
    cargo=$group
    exec 3<"$log"
    while group_runs "$cargo"; do
        read_cargo "$part"
        show_progress
        sleep 1
    done
    read_cargo "$part"
    exec 3<&-
    [ -z "$unread" ] || printf '%s\n' "$unread" >&2
    progress_end
    await_group "$cargo"
}

# Reads what cargo has written since: its bar, which ends with a carriage return, and lines. After an error all lines are shown.
read_cargo() {
    local part="$1" piece line
    IFS= read -r -d '' -u 3 piece || unread+="${piece//$'\r'/$'\n'}"
    while [[ $unread == *$'\n'* ]]; do
        line="${unread%%$'\n'*}"
        unread="${unread#*$'\n'}"
        if [[ $line =~ ^\ +Building\ \[.*\]\ ([0-9]+)/([0-9]+) ]]; then
            cargo_done="${BASH_REMATCH[1]} of ${BASH_REMATCH[2]} units"
            reach "$part" "$(cargo_percent "$part" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}")"
        elif $cargo_failed || ! [[ $line =~ $CRATE_LINE ]]; then
            case "$line" in error*) cargo_failed=true ;; esac
            progress_end
            printf '%s\n' "$line" >&2
        fi
    done
}

show_progress() {
    local text="compiled $cargo_done"
    # A failure beside cargo is told at once.
    if [ -n "$peers" ] && ! group_runs "$peers"; then await_peers; fi
    if [ -n "$peers" ]; then
        read_peers
        text+=", $peers_done"
    fi
    estimate
    progress "$text; $remaining"
}

# Starts building the programs beside ours, if one is missing. What they are built with is installed first: two apt-get at
# once would be in each other's way, and what cannot be installed is better known now than in ten minutes.
start_peers() {
    "$SETUP/peers.sh" --are-there && return
    "$SETUP/peers.sh" --tools
    say "building op-node, op-batcher, op-conductor and op-geth and fetching anvil beside it, once for this machine (log: $work/peers.log)"
    PEERS_PROGRESS="$work/peers.progress" begin_group nice -n 19 "$SETUP/peers.sh" >"$work/peers.log" 2>&1
    peers=$group
}

# The percent and the words that `peers.sh` left last.
read_peers() {
    local percent
    [ -e "$work/peers.progress" ] || return 0
    IFS=' ' read -r percent peers_done <"$work/peers.progress"
    reach peers "$percent"
}

await_peers() {
    while group_runs "$peers"; do
        read_peers
        estimate
        progress "$peers_done; $remaining"
        sleep 1
    done
    progress_end
    await_group "$peers" || {
        tail -n 30 "$work/peers.log" >&2
        fail "the programs beside ours were not built" "the whole log: $work/peers.log"
    }
    peers=""
    reach peers 100
    tail -n 1 "$work/peers.log"
}

main "$@"
