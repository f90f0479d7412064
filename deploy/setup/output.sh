# shellcheck shell=bash
# How the setup scripts speak: plain lines, and one line that changes in place where there is a terminal.

say() { printf 'setup: %s\n' "$*"; }

fail() {
    printf 'setup: error: %s\n' "$1" >&2
    shift
    local line
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

# Seconds as `3 min 05 s`.
elapsed() {
    if [ "$1" -lt 60 ]; then printf '%d s' "$1"; else printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); fi
}

# Size of a file or directory, as people read it.
size_of() { du -sh "$1" 2>/dev/null | cut -f1; }

# Shows where a long step is. With a terminal: one line, in place, at each call. Without: a line a minute.
progress_said_at=0
progress() {
    if [ -t 1 ]; then
        # Cut to one row, because the next call clears one.
        local columns
        columns="$(tput cols 2>/dev/null || echo 80)"
        printf '\r\033[K%.*s' "$((columns - 1))" "setup: $*"
    elif [ $((SECONDS - progress_said_at)) -ge 60 ]; then
        progress_said_at=$SECONDS
        say "$*"
    fi
}
progress_end() { if [ -t 1 ]; then printf '\r\033[K'; fi; }

# Runs a command with its output in a log, which is shown when the command fails.
quietly() {
    local log="$1"
    shift
    "$@" >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        fail "this failed: $*" "the whole log: $log"
    }
}

# Runs a command in the background and sets `group` to its process group. In a group of its own all that it starts can be ended
# with it; it gets no session of its own, because a session has its own share of the processors, whatever its priority.
# What runs ends with this script.
groups=()
begin_group() {
    trap 'exit 130' INT TERM HUP
    trap end_groups EXIT
    set -m
    "$@" </dev/null 9>&- &
    group=$!
    set +m
    groups+=("$group")
}

group_runs() { kill -0 "$1" 2>/dev/null; }

# Waits for a group's command; its exit code is this function's.
await_group() {
    local code=0 one left=()
    wait "$1" || code=$?
    for one in "${groups[@]}"; do [ "$one" = "$1" ] || left+=("$one"); done
    groups=("${left[@]}")
    return "$code"
}

end_groups() {
    local code=$? one
    set +e
    for one in "${groups[@]}"; do kill -- "-$one" 2>/dev/null; done
    for one in "${groups[@]}"; do wait "$one" 2>/dev/null; done
    exit "$code"
}
