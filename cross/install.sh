#!/bin/sh
# Installs @PROGRAM@ from this folder on a system without Debian's packages: ./install.sh as root; PREFIX=/usr/local for
# another place, DESTDIR=DIR to look at what it would do. ./install.sh --uninstall takes it away again, and leaves
# configuration and state.
set -eu
cd "$(dirname "$0")"
program=@PROGRAM@
prefix=${PREFIX:-/usr/local}
dest=${DESTDIR:-}
units=$dest/etc/systemd/system

if [ "${1:-}" = --uninstall ]; then
    for unit in lib/systemd/system/*; do
        unit=$(basename "$unit")
        [ -n "$dest" ] || ! command -v systemctl >/dev/null || systemctl disable --now "$unit" || true
        rm -f "$units/$unit"
    done
    (cd usr && find . -type f) | while read -r file; do rm -f "$dest$prefix/$file"; done
    echo "$program is gone; /etc/$program and /var/lib/$program are left"
    exit 0
fi
[ -n "$dest" ] || [ "$(id -u)" -eq 0 ] || { echo "error: run it as root, or with DESTDIR=DIR" >&2; exit 1; }

(cd usr && find . -type f) | while read -r file; do
    mode=0644
    case $file in ./bin/*) mode=0755 ;; esac
    install -D -m $mode "usr/$file" "$dest$prefix/$file"
done
# Configuration that is there stays as it is.
(cd etc && find . -type f) | while read -r file; do
    [ -e "$dest/etc/$file" ] || install -D -m 0644 "etc/$file" "$dest/etc/$file"
done
for unit in lib/systemd/system/*; do
    mkdir -p "$units"
    sed "s|/usr/bin/|$prefix/bin/|" "$unit" > "$units/$(basename "$unit")"
done
if [ -z "$dest" ]; then
    if ! getent passwd $program >/dev/null; then
        if command -v useradd >/dev/null; then
            useradd --system --user-group --no-create-home --home-dir /var/lib/$program --shell /usr/sbin/nologin $program
        else # busybox
            addgroup -S $program && adduser -S -D -H -h /var/lib/$program -s /sbin/nologin -G $program $program
        fi
    fi
    for group in video render; do
        getent group $group >/dev/null || continue
        if command -v usermod >/dev/null; then usermod --append --groups $group $program; else addgroup $program $group; fi
    done
    install -d -m 0750 -o $program -g $program /var/lib/$program
    install -d -m 0750 -o root -g $program /etc/$program
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        for unit in lib/systemd/system/*; do systemctl enable --now "$(basename "$unit")"; done
    fi
fi
echo "$program is in $dest$prefix/bin"
