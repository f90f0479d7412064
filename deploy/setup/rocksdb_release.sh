# shellcheck shell=bash
# RocksDB without compiling it: the RocksDB project's own release for Java, whose shared library has the whole C API.
#
# Maven fetches the archive into a repository of its own, which is removed afterwards, and unpacks the one library. What does
# not have the checksums below is not used.

# A new version of the `rocksdb` crate wants new lines here; `tests/tests/tidy.rs` compares the versions.
readonly ROCKSDB_RELEASE="11.8.1"
readonly ROCKSDB_RELEASE_SHA256="628ed387887f4a431df480857954df2a28b4389bfe24858ccdec611cabf65dbf"
readonly ROCKSDB_X86_64_SHA256="265c656af5c6502cb8d71db1a74858509f706cc47f1a5b6f603c736d11ce677d"
readonly ROCKSDB_AARCH64_SHA256="7b2d0808c6afae32db39f11cb61cbefffcf460895b1c64ee6193ba02d6bdd23a"
readonly ROCKSDB_GLIBC_MIN="2.17"
readonly MAVEN_DEPENDENCY_PLUGIN="org.apache.maven.plugins:maven-dependency-plugin:3.8.1"

# Why the library could not be fetched, as the end of a sentence. `rocksdb.sh` says it.
ROCKSDB_NOT_FETCHED=""

not_fetched() {
    # shellcheck disable=SC2034 # read in rocksdb.sh
    ROCKSDB_NOT_FETCHED="$*"
    return 1
}

# The library's name in the archive, without its ending; fails where the release has none.
rocksdb_member() {
    case "$(uname -sm)" in
    "Linux x86_64") echo librocksdbjni-linux64 ;;
    "Linux aarch64") echo librocksdbjni-linux-aarch64 ;;
    *) return 1 ;;
    esac
}

rocksdb_member_sha256() {
    if [ "$(uname -m)" = aarch64 ]; then echo "$ROCKSDB_AARCH64_SHA256"; else echo "$ROCKSDB_X86_64_SHA256"; fi
}

has_sha256() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$2" ]; }

# The library is the one that was pinned.
shared_rocksdb_is_sound() {
    [ "$LOCKSTEP_ROCKSDB_VERSION" = "$ROCKSDB_RELEASE" ] && has_sha256 "$1" "$(rocksdb_member_sha256)"
}

fetch_rocksdb() {
    local work="$LOCKSTEP_CACHE/rocksdb-fetch" start=$SECONDS
    rocksdb_release_fits && require_maven || return 1
    say "fetching RocksDB $ROCKSDB_RELEASE with Maven, once for this machine (92 MB, then 17 MB on disk)"
    rm -rf "$work" && mkdir -p "$work"
    if ! { unpack_rocksdb "$work" && rocksdb_loads "$work"; }; then
        rm -rf "$work"
        return 1
    fi
    if ! { mkdir -p "$LOCKSTEP_ROCKSDB_SHARED" &&
        mv "$work/library/$(rocksdb_member).so" "$LOCKSTEP_ROCKSDB_SHARED/librocksdb.so"; }; then
        not_fetched "it could not be put into $LOCKSTEP_ROCKSDB_SHARED"
        return 1
    fi
    rm -rf "$work"
    say "RocksDB is in $LOCKSTEP_ROCKSDB_SHARED, after $(elapsed $((SECONDS - start)))"
}

# Whether the release is for this machine, and is the version that the lock file wants.
rocksdb_release_fits() {
    local glibc
    [ "$LOCKSTEP_ROCKSDB_VERSION" = "$ROCKSDB_RELEASE" ] || {
        not_fetched "Cargo.lock has version $LOCKSTEP_ROCKSDB_VERSION and deploy/setup/rocksdb_release.sh pins $ROCKSDB_RELEASE"
        return 1
    }
    rocksdb_member >/dev/null || {
        not_fetched "its release has no library for $(uname -sm)"
        return 1
    }
    glibc="$(getconf GNU_LIBC_VERSION 2>/dev/null)"
    is_at_least "$ROCKSDB_GLIBC_MIN" "${glibc#glibc }" || not_fetched "its release needs glibc $ROCKSDB_GLIBC_MIN; here is ${glibc:-another libc}"
}

# Debian's package brings Java with it. An apt-get that fails is no end: RocksDB can be compiled.
require_maven() {
    maven_runs && return
    say "Maven is missing, or Java for it; it fetches RocksDB (Debian's package: 1 min, 250 MB)"
    (install_packages maven default-jre-headless) || say "Maven was not installed"
    maven_runs || not_fetched "Maven does not run here (as root: apt-get install -y maven)"
}

maven_runs() { mvn --version >/dev/null 2>&1; }

unpack_rocksdb() {
    local work="$1" member archive
    member="$(rocksdb_member).so"
    archive="$work/repository/org/rocksdb/rocksdbjni/$ROCKSDB_RELEASE/rocksdbjni-$ROCKSDB_RELEASE.jar"
    # In `$work`, because the plugin writes marks into the directory that it is started in.
    (cd "$work" && exec mvn --batch-mode --quiet "$MAVEN_DEPENDENCY_PLUGIN:unpack" "-Dartifact=org.rocksdb:rocksdbjni:$ROCKSDB_RELEASE" \
        "-Dmdep.unpack.includes=$member" "-DoutputDirectory=$work/library" "-Dmaven.repo.local=$work/repository") \
        >"$LOCKSTEP_CACHE/maven.log" 2>&1 </dev/null || {
        not_fetched "Maven could not fetch it ($(grep -m 1 ERROR "$LOCKSTEP_CACHE/maven.log" || tail -n 1 "$LOCKSTEP_CACHE/maven.log"))"
        return 1
    }
    has_sha256 "$archive" "$ROCKSDB_RELEASE_SHA256" || {
        not_fetched "the archive that came is not the one pinned: $(sha256sum "$archive")"
        return 1
    }
    has_sha256 "$work/library/$member" "$(rocksdb_member_sha256)" || not_fetched "the library in the archive is not the one pinned"
}

# The loader finds all that the library needs.
rocksdb_loads() {
    local missing
    missing="$(ldd "$1/library/$(rocksdb_member).so" 2>&1 | grep 'not found')" || return 0
    not_fetched "this machine lacks what it needs:$missing"
}
