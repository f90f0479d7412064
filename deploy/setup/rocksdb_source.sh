# shellcheck shell=bash
# RocksDB's static library, compiled once per machine. `make release` needs it; else it is where the release cannot be fetched.
#
# A throw-away crate depends on `rocksdb` with our version and features. Cargo compiles it in release (a dev build makes an
# archive thirty times as large), and the archive is copied out. lz4 is not in it: cargo links that from its own crate.

readonly ROCKSDB_BYTES_MIN=$((10 * 1024 * 1024))
readonly ROCKSDB_OBJECTS_MIN=300

# A complete archive: large enough, readable, and with all its members.
static_rocksdb_is_sound() {
    local archive="$1"
    [ -f "$archive" ] || return 1
    [ "$(stat -c %s "$archive")" -gt "$ROCKSDB_BYTES_MIN" ] || return 1
    [ "$(ar t "$archive" 2>/dev/null | grep -c '\.o$')" -ge "$ROCKSDB_OBJECTS_MIN" ]
}

build_rocksdb() {
    local archive="$LOCKSTEP_ROCKSDB_STATIC/librocksdb.a" work="$LOCKSTEP_CACHE/rocksdb-build" start=$SECONDS built
    say "building RocksDB $LOCKSTEP_ROCKSDB_VERSION, once for this machine: about 30 CPU minutes (15 min on two idle cores),"
    say "300 MB of disk while it runs and 45 MB after it, in $LOCKSTEP_CACHE"
    write_rocksdb_crate "$work"
    compile_rocksdb "$work" || {
        tail -n 30 "$work/setup.log" >&2
        fail "RocksDB did not compile" "the whole log: $work/setup.log"
    }
    built="$(find "$work/target/release/build" -path '*librocksdb-sys-*/out/librocksdb.a' -print -quit)"
    static_rocksdb_is_sound "$built" || fail "the RocksDB library in $work is not complete" "Remove that directory and run make again."
    mkdir -p "$(dirname "$archive")"
    cp "$built" "$archive.$$"
    # The linker looks here first, and takes the C++ library into the program, too.
    cp "$(g++ -print-file-name=libstdc++.a)" "$LOCKSTEP_ROCKSDB_STATIC"
    mv "$archive.$$" "$archive"
    rm -rf "$work"
    say "RocksDB is in $archive ($(size_of "$archive")), after $(elapsed $((SECONDS - start)))"
}

write_rocksdb_crate() {
    local work="$1" manifest
    mkdir -p "$work/src"
    [ -f "$work/src/main.rs" ] || echo 'fn main() {}' >"$work/src/main.rs"
    # The same versions of the build tools as the workspace; cargo drops what this crate does not need.
    [ -f "$work/Cargo.lock" ] || cp "$LOCKSTEP_ROOT/Cargo.lock" "$work/Cargo.lock"
    manifest="$(printf '%s\n' '[package]' 'name = "rocksdb-build"' 'version = "0.0.0"' 'edition = "2024"' '[dependencies]' \
        "rocksdb = { version = \"=$(lockstep_locked_version rocksdb)\", default-features = false, features = [\"lz4\", \"bindgen-runtime\"] }" \
        '[workspace]')"
    [ "$(cat "$work/Cargo.toml" 2>/dev/null)" = "$manifest" ] || printf '%s\n' "$manifest" >"$work/Cargo.toml"
}

# How many files RocksDB has, once cargo has unpacked it.
rocksdb_file_count() {
    local list
    list="$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -maxdepth 3 \
        -path "*librocksdb-sys-$LOCKSTEP_ROCKSDB_SYS/rocksdb_lib_sources.txt" -print -quit 2>/dev/null || true)"
    if [ -n "$list" ]; then wc -l <"$list"; else echo "?"; fi
}

# Runs cargo in the background, so that this shell can count finished files.
compile_rocksdb() {
    local work="$1" total="?" done_count
    expect rocksdb
    begin_group env --chdir="$work" --unset=ROCKSDB_LIB_DIR --unset=ROCKSDB_STATIC --unset=ROCKSDB_COMPILE \
        --unset=RUSTC_WORKSPACE_WRAPPER --unset=CARGO_BUILD_BUILD_DIR CARGO_TARGET_DIR="$work/target" \
        cargo build --release >"$work/setup.log" 2>&1
    # shellcheck disable=SC2154 # output.sh sets it
    while group_runs "$group"; do
        [ "$total" != "?" ] || total="$(rocksdb_file_count)"
        done_count="$(find "$work/target/release/build" -path '*librocksdb-sys-*/out/*.o' 2>/dev/null | wc -l)"
        [ "$total" = "?" ] || reach rocksdb $((done_count * 100 / total))
        estimate
        # shellcheck disable=SC2154 # estimate.sh sets it
        progress "RocksDB: $done_count of $total files; $remaining"
        sleep 2
    done
    progress_end
    await_group "$group"
}
