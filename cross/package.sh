#!/bin/sh
# package.sh PROGRAM TARGET: a Debian package and a tarball of edge-agent or dc-encoder in target/boxes; of the statically
# linked agent, which is for other systems, the tarball alone. Prints the path of what it made. Two runs on one
# commit give the same bytes. Exit status 3: there is no toolchain for TARGET here (cross/build.sh).
set -eu
cd "$(dirname "$0")/.."
program=$1 target=$2
. cross/target.sh
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

binary=$(sh cross/build.sh "$program" "$target") || exit $?
binary=$(echo "$binary" | tail -1)
libc_wanted=$(sh cross/check-glibc.sh "$binary" "$libc_floor" | sed 's/glibc //')
mkdir -p "$out"
root=$(mktemp -d "$out/.$program-$deb_arch.XXXXXX")
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

install -D -m 0755 "$binary" "$root/usr/bin/$program"
# Man pages, completions, and the agent's example of a configuration.
pages=$(sh cross/build.sh pages "$here") || exit 1
"$(echo "$pages" | tail -1)" "$program" "$root"
gzip -9n "$root"/usr/share/man/man1/*.1
for unit in cross/"$program"/*.service cross/"$program"/*.path; do
    [ ! -e "$unit" ] || install -D -m 0644 "$unit" "$root/lib/systemd/system/$(basename "$unit")"
done
install -D -m 0644 "cross/$program/default" "$root/etc/default/$program"
doc=$root/usr/share/doc/$program
mkdir -p "$doc"
sh cross/copyright.sh > "$doc/copyright"
{
    printf '%s (%s) stable; urgency=medium\n\n  * See CHANGELOG.md of the project.\n\n' "$program" "$version"
    printf ' -- Fine-Tuned Heads <maintainers@fine-tuned-heads.example>  %s\n' "$(date -Rd "@$SOURCE_DATE_EPOCH")"
} | gzip -9n > "$doc/changelog.gz"
if [ "$program" = dc-encoder ]; then
    install -D -m 0644 cross/dc-encoder/encoder.toml "$root/etc/dc-encoder/encoder.toml"
fi

# The tarball is what the package installs, and a script that does it elsewhere.
name=$program-$version-${target%-musl}-linux-$libc
tree=$(mktemp -d "$out/.tar.XXXXXX")
trap 'rm -rf "$root" "$tree"' EXIT
mkdir "$tree/$name"
cp -a "$root/." "$tree/$name/"
chmod 755 "$tree/$name"
sed "s/@PROGRAM@/$program/g" cross/install.sh > "$tree/$name/install.sh"
chmod 755 "$tree/$name/install.sh"
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$tree" -cf - "$name" |
    gzip -9n > "$out/$name.tar.gz"
if [ $libc = musl ]; then echo "$out/$name.tar.gz"; exit 0; fi

mkdir -m 755 "$root/DEBIAN"
for script in postinst prerm postrm; do install -m 0755 "cross/$program/$script" "$root/DEBIAN/$script"; done
(cd "$root" && find etc -type f | sort | sed 's|^|/|') > "$root/DEBIAN/conffiles"
size=$(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f1)
{
    sed -e "s/@ARCH@/$deb_arch/" -e "s/@LIBC@/libc6 (>= $libc_wanted)/" -e '/^Description:/,$d' "cross/$program/control"
    printf 'Version: %s\nPriority: optional\nInstalled-Size: %s\n' "$version" "$size"
    echo 'Maintainer: Fine-Tuned Heads <maintainers@fine-tuned-heads.example>'
    sed -n '/^Description:/,$p' "cross/$program/control"
} > "$root/DEBIAN/control"
(cd "$root" && find usr etc lib -type f | sort | xargs md5sum) > "$root/DEBIAN/md5sums"
find "$root" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
deb=$out/${program}_${version}_$deb_arch.deb
dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$root" "$deb" >&2
echo "$deb"
