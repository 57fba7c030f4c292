#!/bin/sh
# debian.sh ARCH: Debian's kernel of amd64, arm64 or armhf with its modules, its C library, a static busybox and what
# turns a virtual camera's knobs, from Debian's packages, unpacked below target/ and not installed. Prints the folder.
set -eu
cd "$(dirname "$0")/../.."
arch=$1
case $arch in
    armhf) kernel=linux-image-armmp ;;
    *) kernel=linux-image-$arch ;;
esac
root=${CARGO_TARGET_DIR:-$PWD/target}/boxes/debian/$arch
if [ -e "$root/complete" ]; then echo "$root"; exit 0; fi
rm -rf "$root"
mkdir -p "$root/deb"
. cross/private-apt.sh
# The point release alone: a kernel of the security archive comes and goes, and its armhf index is often broken.
private_apt "$root" "$arch" bookworm
kernel=$(apt-cache depends "$kernel:$arch" | sed -n 's/.*Depends: \(linux-image-[0-9][^:]*\).*/\1/p' | head -1)
[ -n "$kernel" ] || { echo "error: Debian has no kernel for $arch" >&2; exit 1; }
cd "$root/deb"
packages="busybox-static libc6 libgcc-s1 v4l-utils libv4l-0 libv4lconvert0 libjpeg62-turbo libstdc++6"
echo "+ apt-get download $kernel $packages, of $arch" >&2
# shellcheck disable=SC2046,SC2086 # lists of words
apt-get download -qq "$kernel:$arch" $(printf "%s:$arch " $packages) >&2
for deb in *.deb; do dpkg -x "$deb" "$root"; done
rm -rf "$root/deb" "$root/usr/share/doc"
depmod -b "$root" "${kernel#linux-image-}"
touch "$root/complete"
echo "$root"
