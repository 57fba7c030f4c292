#!/bin/sh
# packages.sh [TARGET…]: packages of the agent for all architectures and of the encoder for x86_64 and aarch64 (by name
# also x86_64-musl and aarch64-musl: the agent linked statically, as a tarball), with lintian, SHA-256 sums, and sizes
# against their goals. An architecture without a toolchain here is said at the end, and the others are built.
set -eu
cd "$(dirname "$0")/.."
sh cross/debian-packages.sh lintian
out=${CARGO_TARGET_DIR:-$PWD/target}/boxes
mkdir -p "$out"
built="" missing="" failed=""
goal() { # WHAT GOAL_BYTES MEASURED_BYTES
    verdict=met
    [ "$3" -le "$2" ] || verdict=missed
    awk -v w="$1" -v g="$2" -v m="$3" -v v=$verdict \
        'BEGIN { printf "%s: goal=%.2fMB measured=%.2fMB %s\n", w, g / 1e6, m / 1e6, v }'
}
pack() { # PROGRAM TARGET
    status=0
    made=$(sh cross/package.sh "$1" "$2") || status=$?
    case $status in
        0) ;;
        3) missing="$missing $1/$2"; return ;;
        *) failed="$failed $1/$2"; return ;;
    esac
    made=$(echo "$made" | tail -1)
    built="$built $1/$2"
    echo "$made"
    case $made in
        *.deb)
            lintian --tag-display-limit 0 --allow-root --fail-on error "$made" || failed="$failed lintian:$1/$2"
            installed=$(dpkg-deb --fsys-tarfile "$made" | tar -tv | awk '{ n += $3 } END { print n }') ;;
        *) installed=$(tar -tvzf "$made" | awk '{ n += $3 } END { print n }') ;;
    esac
    [ "$1" = edge-agent ] || return 0
    goal "edge-agent $2 package" 3000000 "$(stat -c %s "$made")"
    goal "edge-agent $2 installed" 8000000 "$installed"
}
targets=${*:-x86_64 aarch64 armv7}
for target in $targets; do pack edge-agent "$target"; done
for target in $targets; do case $target in x86_64|aarch64) pack dc-encoder "$target" ;; esac; done

[ -z "$built" ] || (cd "$out" && sha256sum -- *.deb *.tar.gz > SHA256SUMS && cat SHA256SUMS)
echo "built:${built:- nothing}"
[ -z "$missing" ] || echo "not built, there is no toolchain here (the reasons are above):$missing"
[ -z "$failed" ] || { echo "error: failed, or with errors of lintian:$failed" >&2; exit 1; }
# Without arguments a machine builds what it can; what somebody asked for by name must be there.
if [ -z "$built" ] || { [ $# -gt 0 ] && [ -n "$missing" ]; }; then exit 1; fi
