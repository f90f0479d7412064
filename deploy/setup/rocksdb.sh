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
    [ "${LOCKSTEP_ROCKSDB:-}" = source ] || alone_with rocksdb-fetch fetch_rocksdb || {
        say "RocksDB is compiled here instead, because $ROCKSDB_NOT_FETCHED"
        rm -rf "$LOCKSTEP_ROCKSDB_SHARED"
    }
    rocksdb_is_there || alone_with rocksdb-build build_rocksdb
    rocksdb_is_there || fail "the RocksDB in $ROCKSDB_LIB_DIR is not complete" "Remove that directory and run make again."
}

# Whether the library that `env.sh` chooses is complete.
rocksdb_is_there() {
    # shellcheck source=deploy/setup/env.sh
    . "$LOCKSTEP_ROOT/deploy/setup/env.sh"
    if [ "$ROCKSDB_LIB_DIR" = "$LOCKSTEP_ROCKSDB_STATIC" ]; then
        static_rocksdb_is_sound "$LOCKSTEP_ROCKSDB_STATIC/librocksdb.a"
    else
        shared_rocksdb_is_sound "$LOCKSTEP_ROCKSDB_SHARED/librocksdb.so"
    fi
}

# Runs a function as the only setup on this machine that does; where another one did it meanwhile, there is nothing to do.
alone_with() {
    local code=0
    exec 9>"$LOCKSTEP_CACHE/$1.lock"
    flock --nonblock 9 || {
        say "another setup on this machine is getting RocksDB; waiting for it"
        flock 9
    }
    rocksdb_is_there || "$2" || code=$?
    flock --unlock 9
    return "$code"
}

# Puts the shared library beside the clone's program, which then needs no cache to run. A static one is in the program.
place_rocksdb() {
    local library="$ROCKSDB_LIB_DIR/librocksdb.so" place="$CARGO_TARGET_DIR/debug"
    [ "$ROCKSDB_LIB_DIR" = "$LOCKSTEP_ROCKSDB_SHARED" ] || return 0
    cmp --silent "$library" "$place/librocksdb.so" && return
    mkdir -p "$place"
    install -m 755 "$library" "$place/librocksdb.so.$$"
    mv "$place/librocksdb.so.$$" "$place/librocksdb.so"
}
