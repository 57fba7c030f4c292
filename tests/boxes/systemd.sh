#!/bin/sh
# systemd.sh DISK: a disk with a small Debian 12 for amd64 whose first program is systemd. Nothing of this project is on it.
set -eu
cd "$(dirname "$0")/../.."
disk=$1
if [ "$(id -u)" != 0 ] && [ -z "${FAKEROOTKEY:-}" ]; then
    # Owners of files are kept, and the disk gets them.
    exec fakeroot sh "$0" "$@"
fi
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
. cross/private-apt.sh
mirror=$(debian_mirror)
mmdebstrap --quiet --variant=minbase --mode=auto --include=systemd-sysv,udev,adduser,init-system-helpers,sudo \
    bookworm - "$mirror/debian" | tar -x --exclude './dev/*' -C "$tree"
echo plaza-box > "$tree/etc/hostname"
: > "$tree/etc/machine-id"
cat > "$tree/etc/systemd/network/wired.network" <<'UNIT'
[Match]
Type=ether
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
UNIT
cat > "$tree/etc/systemd/system/command-port.service" <<'UNIT'
[Unit]
Description=Commands of the test
[Service]
ExecStart=/bin/sh /world/shell
[Install]
WantedBy=multi-user.target
UNIT
wants() { mkdir -p "$tree/etc/systemd/system/$1.wants" && ln -sf "$2" "$tree/etc/systemd/system/$1.wants/"; }
wants multi-user.target ../command-port.service
wants multi-user.target /lib/systemd/system/systemd-networkd.service
wants network-online.target /lib/systemd/system/systemd-networkd-wait-online.service
mkdir -p "$tree/world"
# Under its name only when it is whole.
rm -f "$disk.part"
mke2fs -q -t ext4 -d "$tree" "$disk.part" 1G
mv "$disk.part" "$disk"
