#!/bin/sh
# images.sh [ARCH…]: for amd64, arm64 and armhf what a virtual camera box is made of, in target/boxes/vm: Debian's kernel,
# what it starts with, and a disk that holds the packages of target/boxes; for amd64 also a small Debian with systemd.
set -eu
cd "$(dirname "$0")/../.."
boxes=${CARGO_TARGET_DIR:-$PWD/target}/boxes
vm=$boxes/vm
mkdir -p "$vm"

# Modules for the disks, the network, the command port and the virtual camera, and a script that goes on to the disk.
initrd() { # ARCH DEBIAN
    version=$(ls "$2/lib/modules")
    tree=$(mktemp -d "$vm/.initrd.XXXXXX")
    mkdir "$tree/bin" "$tree/modules" "$tree/proc" "$tree/sys" "$tree/dev" "$tree/disk"
    for module in virtio_pci virtio_mmio virtio_blk virtio_net virtio_console virtio_rng crc32c_generic ext4 vivid; do
        modprobe -d "$2" -S "$version" --show-depends "$module"
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' > "$tree/modules/paths"
    while read -r path; do
        cp "$path" "$tree/modules/"
        basename "$path"
    done < "$tree/modules/paths" > "$tree/modules/order"
    cp "$2/bin/busybox" "$2/usr/bin/v4l2-ctl" "$tree/bin/"
    install -m 0755 tests/boxes/initrd "$tree/init"
    (cd "$tree" && find . | LC_ALL=C sort | cpio --quiet -o -H newc | gzip -1) > "$vm/$1.initrd"
    rm -rf "$tree"
    cp "$2/boot/vmlinuz-$version" "$vm/$1.kernel"
}

# What the packages hold, the C library and busybox: a box without a distribution.
disk() { # ARCH DEBIAN
    tree=$(mktemp -d "$vm/.disk.XXXXXX")
    chmod 755 "$tree"
    for part in bin sbin proc sys dev run tmp world var/lib/edge-agent etc/edge-agent; do mkdir -p "$tree/$part"; done
    for part in lib lib64 usr/lib; do
        [ -d "$2/$part" ] || continue
        mkdir -p "$tree/$part"
        tar -C "$2/$part" -c --exclude ./modules . | tar -C "$tree/$part" -x
    done
    for deb in "$boxes"/*_"$1".deb; do dpkg-deb -x "$deb" "$tree"; done
    cp "$2/bin/busybox" "$2/usr/bin/v4l2-ctl" "$tree/bin/"
    install -m 0755 tests/boxes/init "$tree/sbin/init"
    rm -f "$vm/$1.disk"
    mke2fs -q -t ext4 -d "$tree" -E root_owner=0:0 "$vm/$1.disk" 192M
    rm -rf "$tree"
}

for arch in ${*:-amd64 arm64 armhf}; do
    debian=$(sh tests/boxes/debian.sh "$arch" | tail -1)
    initrd "$arch" "$debian"
    disk "$arch" "$debian"
    [ "$arch" != amd64 ] || [ -e "$vm/systemd.disk" ] || sh tests/boxes/systemd.sh "$vm/systemd.disk"
done
