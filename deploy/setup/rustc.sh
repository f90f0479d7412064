#!/bin/sh
# Runs the compiler on this clone's own crates. Its path is this clone's, and that is one point of it: see `env.sh`.
#
# The other: a program that is linked with the shared RocksDB finds it beside itself, where `setup.sh` puts it, or in the
# cache. Test programs are made in the cache, and go with it.
if [ -z "${ROCKSDB_STATIC:-}" ] && [ -n "${ROCKSDB_LIB_DIR:-}" ]; then
    # shellcheck disable=SC2016 # the loader's variable
    for path in '$ORIGIN' "$ROCKSDB_LIB_DIR"; do
        set -- "$@" -C link-arg=-Xlinker -C link-arg=-rpath -C link-arg=-Xlinker -C "link-arg=$path"
    done
fi
exec "$@"
