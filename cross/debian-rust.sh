#!/bin/sh
# debian-rust.sh ARCH: a Rust compiler with the standard library of arm64 or armhf, from Debian's packages, unpacked
# below target/ and not installed. Prints the path of its rustc. For machines without rustup; needs apt and a network
# the first time.
#
# Debian keeps a current Rust for its web browsers: rustc-web in the security archive. The compiler of this machine's
# architecture and the library of the other must be of one release; the armhf library is taken from trixie.
set -eu
cd "$(dirname "$0")/.."
arch=$1
root=${CARGO_TARGET_DIR:-$PWD/target}/debian-rust/$arch
wrapper=$root/rustc
if [ -x "$wrapper" ]; then echo "$wrapper"; exit 0; fi
say() { echo "+ $*" >&2; "$@" >&2; }

native=$(dpkg --print-architecture)
mkdir -p "$root/deb" "$root/root"
. cross/private-apt.sh
suites="bookworm bookworm-security"
[ "$arch" != armhf ] || suites="$suites trixie@$arch trixie-security@$arch"
# shellcheck disable=SC2086 # a list of words
private_apt "$root" "$native $arch" $suites

# The newest release of which both halves are there. Each question to apt reads all indexes: few are asked.
apt-cache madison "rustc-web:$native" "libstd-rust-web-dev:$native" > "$root/native.txt"
apt-cache madison "libstd-rust-web-dev:$arch" > "$root/foreign.txt"
version() { awk -F'|' -v p="$2" '{ gsub(/ /, ""); split($1, n, ":"); if (n[1] == p) print $2 }' "$1"; }
upstream() { sed 's/[+-].*//' | sort -Vu; }
version "$root/foreign.txt" libstd-rust-web-dev | upstream > "$root/theirs.txt"
release=$(version "$root/native.txt" rustc-web | upstream | grep -Fx -f "$root/theirs.txt" | tail -1)
[ -n "$release" ] || { echo "error: no release of rustc-web is there for both $native and $arch; use rustup instead" >&2; exit 1; }
short=$(echo "$release" | cut -d. -f1,2)
ours=$(version "$root/native.txt" rustc-web | grep "^$release" | head -1)
theirs=$(version "$root/foreign.txt" libstd-rust-web-dev | grep "^$release" | head -1)
llvm=$(apt-cache show "rustc-web:$native=$ours" "libstd-rust-web-$short:$native=$ours" | grep -o 'libllvm[0-9]*' | sort -Vu | tail -1)
cd "$root/deb"
say apt-get download -qq "rustc-web:$native=$ours" "libstd-rust-web-$short:$native=$ours" \
    "libstd-rust-web-dev:$native=$ours" "libstd-rust-web-dev:$arch=$theirs" "$llvm:$native"
for deb in *.deb; do dpkg -x "$deb" "$root/root"; done
lib=$root/root/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch)
compiler=$(find "$root/root" -type f -name 'rustc*' -perm -u+x | grep '/bin/' | head -1)
cat > "$wrapper" <<WRAP
#!/bin/sh
LD_LIBRARY_PATH='$lib':"\${LD_LIBRARY_PATH:-}" exec '$compiler' "\$@"
WRAP
chmod +x "$wrapper"
"$wrapper" --version >&2
echo "$wrapper"
