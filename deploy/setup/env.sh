# shellcheck shell=bash
# The environment of every cargo command in this tree. Read it, do not run it:
#
#     . deploy/setup/env.sh
#
# What you set yourself stays; what another clone's copy of this file set does not. It only looks at a few files.

LOCKSTEP_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")/../.." && pwd -P)"

# Everything that outlives a clone: the RocksDB library, compiled dependencies, libclang.
LOCKSTEP_CACHE="${LOCKSTEP_CACHE:-$HOME/.cache/lockstep}"
case "$LOCKSTEP_CACHE" in /*) ;; *) LOCKSTEP_CACHE="$PWD/$LOCKSTEP_CACHE" ;; esac
export LOCKSTEP_CACHE

# The version of a package in the lock file.
lockstep_locked_version() {
    awk -v name="name = \"$1\"" '$0 == name { getline; gsub(/version = |"/, ""); print; exit }' "$LOCKSTEP_ROOT/Cargo.lock"
}

# The first system libclang that bindgen would find. `libclang-cpp` is another library.
lockstep_system_libclang() {
    find /usr/lib /usr/lib64 /usr/local/lib -maxdepth 3 \
        \( -name 'libclang.so*' -o -name 'libclang-[0-9]*.so*' \) 2>/dev/null | head -n 1
}

# The headers that come with clang itself (stddef.h and its like). libclang alone does not bring them.
lockstep_clang_headers() {
    find /usr/lib /usr/lib64 /usr/local/lib -maxdepth 6 -path '*clang/*/include/stddef.h' 2>/dev/null | head -n 1
}

if [ "${LOCKSTEP_ENV_OF:-$LOCKSTEP_ROOT}" != "$LOCKSTEP_ROOT" ]; then unset CARGO_TARGET_DIR LOCKSTEP_BIN; fi
export LOCKSTEP_ENV_OF="$LOCKSTEP_ROOT"

# Results (binaries, docs) belong to the clone. Intermediate files are shared, so that a new clone finds its dependencies
# compiled. Cargo would take one clone's crates for another's there, because it compares times of files at equal relative
# paths; a wrapper at a path of this clone makes cargo keep the workspace's own crates apart, and only those. The wrapper
# also tells a program where its shared RocksDB is.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$LOCKSTEP_ROOT/target}"
export CARGO_BUILD_BUILD_DIR="${CARGO_BUILD_BUILD_DIR:-$LOCKSTEP_CACHE/target}"
export RUSTC_WORKSPACE_WRAPPER="$LOCKSTEP_ROOT/deploy/setup/rustc.sh"

# Where the tests find the program they start.
export LOCKSTEP_BIN="${LOCKSTEP_BIN:-$CARGO_TARGET_DIR/debug/lockstep}"

# RocksDB's library, put there once per machine by `setup.sh`: the shared one of the RocksDB project's own release; the static
# one, compiled here, where LOCKSTEP_ROCKSDB=source asks for it or nothing else could be had. Without ROCKSDB_LIB_DIR cargo
# compiles RocksDB (15 minutes), and the mere presence of ROCKSDB_STATIC means static.
LOCKSTEP_ROCKSDB_SYS="$(lockstep_locked_version librocksdb-sys)"
LOCKSTEP_ROCKSDB_VERSION="${LOCKSTEP_ROCKSDB_SYS#*+}"
LOCKSTEP_ROCKSDB_SHARED="$LOCKSTEP_CACHE/rocksdb-$LOCKSTEP_ROCKSDB_VERSION-shared"
LOCKSTEP_ROCKSDB_STATIC="$LOCKSTEP_CACHE/rocksdb-$LOCKSTEP_ROCKSDB_VERSION-static"
case "${ROCKSDB_LIB_DIR:-}" in "$LOCKSTEP_CACHE"/rocksdb-*) unset ROCKSDB_LIB_DIR ROCKSDB_STATIC ;; esac
if [ -z "${ROCKSDB_LIB_DIR:-}" ]; then
    if [ "${LOCKSTEP_ROCKSDB:-}" = source ] ||
        { [ ! -e "$LOCKSTEP_ROCKSDB_SHARED/librocksdb.so" ] && [ -e "$LOCKSTEP_ROCKSDB_STATIC/librocksdb.a" ]; }; then
        export ROCKSDB_LIB_DIR="$LOCKSTEP_ROCKSDB_STATIC" ROCKSDB_STATIC=1
    else
        export ROCKSDB_LIB_DIR="$LOCKSTEP_ROCKSDB_SHARED"
        unset ROCKSDB_STATIC
    fi
fi

# bindgen reads RocksDB's C header with libclang at every fresh build, also when the library is there.
LOCKSTEP_LIBCLANG_DIR="$LOCKSTEP_CACHE/libclang-18.1.1"
if [ -z "${LIBCLANG_PATH:-}" ] && [ -z "$(lockstep_system_libclang)" ] && [ -e "$LOCKSTEP_LIBCLANG_DIR/libclang.so" ]; then
    export LIBCLANG_PATH="$LOCKSTEP_LIBCLANG_DIR"
fi
# gcc's headers do where clang's own are missing; the wheel does not find those of a system clang.
if [ -z "${BINDGEN_EXTRA_CLANG_ARGS:-}" ] && command -v gcc >/dev/null; then
    if [ "${LIBCLANG_PATH:-}" = "$LOCKSTEP_LIBCLANG_DIR" ] || [ -z "$(lockstep_clang_headers)" ]; then
        BINDGEN_EXTRA_CLANG_ARGS="-I$(gcc -print-file-name=include)"
        export BINDGEN_EXTRA_CLANG_ARGS
    fi
fi

# The programs that a devnet runs beside ours, built once per machine by `peers.sh`. Other versions are other directories.
LOCKSTEP_PEERS_HASH="$(cd "$LOCKSTEP_ROOT/deploy/peers" && cat go.mod go.sum tools.go package-lock.json genesis/*.go | sha256sum | cut -c 1-12)"
case "${LOCKSTEP_PEERS:-}" in "$LOCKSTEP_CACHE"/peers-*) unset LOCKSTEP_PEERS ;; esac
export LOCKSTEP_PEERS="${LOCKSTEP_PEERS:-$LOCKSTEP_CACHE/peers-$LOCKSTEP_PEERS_HASH/bin}"
