#!/bin/sh
# Prometheus' promtool for `make check-metrics`: $PROMTOOL, else the one on the path, else Debian's, unpacked into .promtool
# and not installed (its package would start a server). Prints the program.
set -eu
if [ -n "${PROMTOOL:-}" ]; then
    "$PROMTOOL" --version >/dev/null 2>&1 || { echo "error: PROMTOOL=$PROMTOOL does not run" >&2; exit 1; }
    echo "$PROMTOOL"
    exit
fi
if command -v promtool; then exit; fi
folder=$(cd "$(dirname "$0")/.." && pwd)/.promtool
promtool=$folder/usr/bin/promtool
if [ ! -x "$promtool" ]; then
    mkdir -p "$folder"
    echo "+ apt-get download prometheus; dpkg --extract prometheus_*.deb .promtool" >&2
    download() { (cd "$folder" && apt-get download --quiet prometheus >&2); }
    root=""
    [ "$(id -u)" -eq 0 ] || root=sudo
    # A machine may have no lists of packages, or old ones.
    download || { $root apt-get update -q >&2 && download; } || {
        echo "error: no package prometheus; name the program instead: make check-metrics PROMTOOL=FILE" >&2
        exit 1
    }
    dpkg --extract "$folder"/prometheus_*.deb "$folder" >&2
    rm "$folder"/prometheus_*.deb
fi
"$promtool" --version >/dev/null 2>&1 || { echo "error: $promtool does not run: remove $folder and try again" >&2; exit 1; }
echo "$promtool"
