#!/usr/bin/env bash
# Builds the `lockstep` program, after what this machine lacks for it; with `--tests` the tests, too, with `--peers` also the
# programs that a devnet runs beside ours.
#
# Those are built beside cargo at the lowest priority: they take what cargo leaves of the processors. In a clone's first build
# a line says how many minutes are left; later, cargo speaks for itself.
set -euo pipefail

# shellcheck source=deploy/setup/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
readonly SETUP="$LOCKSTEP_ROOT/deploy/setup"
# shellcheck source=deploy/setup/output.sh
. "$SETUP/output.sh"
# shellcheck source=deploy/setup/estimate.sh
. "$SETUP/estimate.sh"

readonly PEERS_LOG="$LOCKSTEP_CACHE/peers.log"
# Columns of cargo's bar. It is read here and not shown.
readonly BAR_COLUMNS=80

readonly PEERS_PROGRESS="$LOCKSTEP_CACHE/peers.progress"

peers_pid="" peers_done="op-node and the others: nothing yet"
cargo_done="nothing yet"

main() {
    local option parts=(build) peers=false part
    for option in "$@"; do
        case "$option" in
        --tests) parts+=(tests) ;;
        --peers) peers=true ;;
        *) fail "unknown option $option" "Known are --tests and --peers." ;;
        esac
    done
    "$SETUP/setup.sh"
    # Again, because setup decides which RocksDB is linked.
    # shellcheck source=deploy/setup/env.sh
    . "$SETUP/env.sh"
    if $peers; then start_peers; fi
    for part in "${parts[@]}"; do was_built "$part" || expect "$part"; done
    [ -z "$peers_pid" ] || expect peers
    for part in "${parts[@]}"; do build "$part"; done
    [ -z "$peers_pid" ] || await_peers
}

# Once this clone was built, cargo needs no estimate.
was_built() { [ -e "$(mark_of "$1")" ] && [ -d "$CARGO_BUILD_BUILD_DIR/debug/deps" ]; }
mark_of() { echo "$CARGO_TARGET_DIR/lockstep-$1-done"; }

build() {
    if was_built "$1"; then
        # What changed of the tests `cargo test` builds by itself.
        [ "$1" != build ] || cargo build --workspace --locked
        return
    fi
    case "$1" in
    build) cargo_estimated build build ;;
    tests) cargo_estimated tests test --no-run ;;
    esac
    reach "$1" 100
    touch "$(mark_of "$1")"
}

# Runs cargo with its bar made into minutes left. Its lines about single crates are not shown, all others are.
cargo_estimated() {
    local part="$1" command="$2" unread="" piece
    shift 2
    CARGO_TERM_PROGRESS_WHEN=always CARGO_TERM_PROGRESS_WIDTH=$BAR_COLUMNS cargo "$command" --workspace --locked "$@" 2>&1 |
        while true; do
            # Cargo ends its bar with a carriage return.
            if IFS= read -r -t 2 -d $'\r' piece; then
                read_cargo "$part" "$unread$piece"
                unread=""
            elif [ $? -gt 128 ]; then
                unread+="$piece"
            else
                read_cargo "$part" "$unread$piece"
                break
            fi
            show_progress
        done
    progress_end
}

# Takes a piece of cargo's output: lines, and at its end perhaps a bar.
read_cargo() {
    local part="$1" line
    while IFS= read -r line; do
        if [[ $line =~ ^\ +Building\ \[.*\]\ ([0-9]+)/([0-9]+) ]]; then
            cargo_done="${BASH_REMATCH[1]} of ${BASH_REMATCH[2]} units"
            reach "$part" "$(cargo_percent "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}")"
        elif ! [[ $line =~ ^\ *(Compiling|Downloading|Downloaded|Updating|Finished|Executable)\  || $line =~ ^\ *$ ]]; then
            progress_end
            printf '%s\n' "$line"
        fi
    done <<<"$2"
}

show_progress() {
    local text="compiled $cargo_done"
    if [ -n "$peers_pid" ]; then
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
    say "building op-node, op-batcher and op-geth and fetching anvil beside it, once for this machine (log: $PEERS_LOG)"
    rm -f "$PEERS_PROGRESS"
    PEERS_PROGRESS="$PEERS_PROGRESS" nice -n 19 "$SETUP/peers.sh" >"$PEERS_LOG" 2>&1 </dev/null &
    peers_pid=$!
    trap 'exit 130' INT TERM
    trap stop_peers EXIT
}

stop_peers() { if kill "$peers_pid" 2>/dev/null; then wait "$peers_pid"; fi; }

# The percent and the words that `peers.sh` left last.
read_peers() {
    local percent
    [ -e "$PEERS_PROGRESS" ] || return 0
    IFS=' ' read -r percent peers_done <"$PEERS_PROGRESS"
    reach peers "$percent"
}

await_peers() {
    while kill -0 "$peers_pid" 2>/dev/null; do
        read_peers
        estimate
        progress "$peers_done; $remaining"
        sleep 1
    done
    progress_end
    trap - EXIT INT TERM
    wait "$peers_pid" || {
        tail -n 30 "$PEERS_LOG" >&2
        fail "the programs beside ours were not built" "the whole log: $PEERS_LOG"
    }
    tail -n 1 "$PEERS_LOG"
}

main "$@"
