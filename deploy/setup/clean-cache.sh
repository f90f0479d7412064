#!/usr/bin/env bash
# Removes what the builds of all clones share: asks first; without a terminal it removes only when YES=1.
set -euo pipefail

# shellcheck source=deploy/setup/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

# Only names that the setup scripts and cargo make here. Anything else in the directory stays.
found=()
for path in "$LOCKSTEP_CACHE"/{target,viem-*,foundry-rs-*,rocksdb-*,rocksdb.*,build.*,libclang-*,libclang.*,peers-*,peers.*,go-*,go.*,apt.log,pip.log,maven.log,fetch.log}; do
    [ -e "$path" ] && found+=("$path")
done
if [ "${#found[@]}" -eq 0 ]; then
    echo "nothing to remove in $LOCKSTEP_CACHE"
    exit 0
fi

echo "would remove:"
du -sh "${found[@]}"
echo "the next build on this machine then takes about ten minutes"
if [ "${YES:-0}" != 1 ]; then
    [ -t 0 ] || { echo "nothing removed; run it with YES=1 to remove them" && exit 0; }
    read -r -p "remove them? [y/N] " answer
    [ "$answer" = y ] || { echo "nothing removed" && exit 0; }
fi
rm -rf -- "${found[@]}"
rmdir -- "$LOCKSTEP_CACHE" 2>/dev/null || true
echo "removed"
