# shellcheck shell=bash
# What a fresh Debian machine lacks: a Rust toolchain (never installed here), gcc, libclang. protoc is not needed.

readonly RUST_MINIMUM="1.95"
readonly LIBCLANG_WHEEL="18.1.1"

# Whether the version $2 is $1 or newer.
is_at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

require_rust() {
    command -v cargo >/dev/null || fail "there is no cargo on the PATH" \
        "Install Rust with rustup (https://rustup.rs):" \
        "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" \
        "If it is installed, open a new shell or run: . \"\$HOME/.cargo/env\"" \
        "Then run make again."
    local version
    version="$(cargo --version | awk '{ print $2 }')"
    is_at_least "$RUST_MINIMUM" "$version" ||
        fail "Rust $RUST_MINIMUM or newer is needed; this is $version" "With rustup: rustup update stable"
}

# Installs Debian packages, or says which ones somebody with the right to do so has to install.
install_packages() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then return 1; fi
    local start=$SECONDS
    say "installing with apt-get: $*"
    quietly "$LOCKSTEP_CACHE/apt.log" apt-get update
    quietly "$LOCKSTEP_CACHE/apt.log" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
    say "installed in $(elapsed $((SECONDS - start)))"
}

require_compiler() {
    local missing=() tool
    for tool in gcc:gcc g++:g++ make:make ar:binutils flock:util-linux; do
        command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
    done
    [ "${#missing[@]}" -eq 0 ] && return
    install_packages "${missing[@]}" libc6-dev || fail "these packages are missing: ${missing[*]}" \
        "As root: apt-get update && apt-get install -y ${missing[*]} libc6-dev"
}

# Debian 12 has 14; elsewhere the newest there is.
debian_libclang_version() {
    local found
    found="$(apt-cache search --names-only '^libclang1-[0-9]+$' | sed 's/^libclang1-\([0-9]*\).*/\1/' | sort -n)"
    if grep -qx 14 <<<"$found"; then echo 14; else tail -n 1 <<<"$found"; fi
}

has_libclang() { [ -n "${LIBCLANG_PATH:-}" ] || [ -n "$(lockstep_system_libclang)" ]; }

require_libclang() {
    has_libclang && return
    say "libclang is missing; it reads RocksDB's C header (Debian's package: 10 s, 100 MB; else a wheel: 5 s, 65 MB)"
    install_libclang_package || install_libclang_wheel
    # shellcheck source=deploy/setup/env.sh
    . "$LOCKSTEP_ROOT/deploy/setup/env.sh"
    has_libclang || fail "libclang was installed and is still not found" "Set LIBCLANG_PATH to its directory."
}

install_libclang_package() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then return 1; fi
    quietly "$LOCKSTEP_CACHE/apt.log" apt-get update
    local version
    version="$(debian_libclang_version)"
    [ -n "$version" ] || return 1
    install_packages "libclang1-$version" "libclang-common-$version-dev"
}

install_libclang_wheel() {
    local start=$SECONDS work
    python3 -m pip --version >/dev/null 2>&1 || fail "libclang is missing, and so are the means to fetch it" \
        "As root: apt-get update && apt-get install -y libclang1-14 libclang-common-14-dev" \
        "or install python3-pip and run make again."
    work="$(mktemp -d "$LOCKSTEP_CACHE/libclang.XXXXXX")"
    say "fetching the Python wheel libclang $LIBCLANG_WHEEL"
    quietly "$LOCKSTEP_CACHE/pip.log" python3 -m pip download --quiet --no-deps --only-binary :all: \
        --dest "$work" "libclang==$LIBCLANG_WHEEL"
    (cd "$work" && python3 -m zipfile -e ./*.whl unpacked)
    mkdir -p "$LOCKSTEP_CACHE/libclang-$LIBCLANG_WHEEL"
    find "$work/unpacked" -name libclang.so -exec mv {} "$LOCKSTEP_CACHE/libclang-$LIBCLANG_WHEEL/libclang.so" \;
    rm -rf "$work"
    say "libclang is in $LOCKSTEP_CACHE/libclang-$LIBCLANG_WHEEL, after $(elapsed $((SECONDS - start)))"
}
