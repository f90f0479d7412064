# shellcheck shell=bash
# RocksDB's library, once per machine for every clone: fetched (`rocksdb_release.sh`), or compiled where LOCKSTEP_ROCKSDB=source
# asks for it or it cannot be fetched (`rocksdb_source.sh`). `env.sh` says which of the two cargo links.

require_rocksdb() {
    case "${LOCKSTEP_ROCKSDB:-}" in
    "" | source) ;;
    *) fail "LOCKSTEP_ROCKSDB=$LOCKSTEP_ROCKSDB is unknown" "Set it to source to compile RocksDB here, or unset it." ;;
    esac
    case "$ROCKSDB_LIB_DIR" in
    "$LOCKSTEP_ROCKSDB_SHARED" | "$LOCKSTEP_ROCKSDB_STATIC") ;;
    *)
        say "using the RocksDB in ROCKSDB_LIB_DIR=$ROCKSDB_LIB_DIR"
        return
        ;;
    esac
    rocksdb_is_there && return
    exec 9>"$LOCKSTEP_CACHE/rocksdb.lock"
    flock --nonblock 9 || {
        say "another setup on this machine is getting RocksDB; waiting for it"
        flock 9
    }
    rocksdb_is_there || get_rocksdb
    flock --unlock 9
    # shellcheck source=deploy/setup/env.sh
    . "$LOCKSTEP_ROOT/deploy/setup/env.sh"
}

# Whether the library that `env.sh` chose, or chooses now, is complete.
rocksdb_is_there() {
    # shellcheck source=deploy/setup/env.sh
    . "$LOCKSTEP_ROOT/deploy/setup/env.sh"
    if [ "$ROCKSDB_LIB_DIR" = "$LOCKSTEP_ROCKSDB_STATIC" ]; then
        static_rocksdb_is_sound "$LOCKSTEP_ROCKSDB_STATIC/librocksdb.a"
    else
        shared_rocksdb_is_sound "$LOCKSTEP_ROCKSDB_SHARED/librocksdb.so"
    fi
}

get_rocksdb() {
    if [ "${LOCKSTEP_ROCKSDB:-}" = source ]; then
        build_rocksdb
        return
    fi
    fetch_rocksdb && return
    say "RocksDB is compiled here instead, because $ROCKSDB_NOT_FETCHED"
    rm -rf "$LOCKSTEP_ROCKSDB_SHARED"
    static_rocksdb_is_sound "$LOCKSTEP_ROCKSDB_STATIC/librocksdb.a" || build_rocksdb
}

# Puts the shared library beside the clone's program, which then needs no cache to run. A static one is in the program.
place_rocksdb() {
    local place="$CARGO_TARGET_DIR/debug"
    if [ -n "${ROCKSDB_STATIC:-}" ] || [ ! -e "$ROCKSDB_LIB_DIR/librocksdb.so" ]; then
        rm -f "$place/librocksdb.so"
    elif ! cmp --silent "$ROCKSDB_LIB_DIR/librocksdb.so" "$place/librocksdb.so"; then
        mkdir -p "$place"
        install -m 755 "$ROCKSDB_LIB_DIR/librocksdb.so" "$place/librocksdb.so.$$"
        mv "$place/librocksdb.so.$$" "$place/librocksdb.so"
    fi
}
