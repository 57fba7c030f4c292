#!/bin/sh
# build.sh PROGRAM TARGET: builds edge-agent or dc-encoder for x86_64, aarch64 or armv7, checks what C library it
# wants, and prints its path as the last line. PROGRAM pages with this machine's TARGET is what writes man pages.
# edge-agent for x86_64-musl or aarch64-musl is linked statically, for systems with another C library or an older one.
#
# The compiler's libraries for another architecture come from the first of these that is there:
#   rustup   rustup target add …, done here if rustup has a toolchain
#   cross    cross (github.com/cross-rs/cross), if CROSS=1
#   Debian   the same release of rustc for this machine and its libraries for the other one (cross/debian-rust.sh)
# Exit status 3: this machine has no toolchain for TARGET and cannot get one; others are failures of the build.
set -eu
cd "$(dirname "$0")/.."
program=$1 target=$2
. cross/target.sh

case $program in
    edge-agent) profile=agent ;;
    dc-encoder|pages) profile=release ;;
    *) echo "error: no program $program: edge-agent or dc-encoder" >&2; exit 2 ;;
esac
# The same bytes whoever builds, wherever: no paths of this machine, and the commit's time.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
export CARGO_PROFILE_RELEASE_STRIP=true CARGO_PROFILE_RELEASE_DEBUG=false CARGO_INCREMENTAL=0
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
RUSTFLAGS="--remap-path-prefix=$PWD=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$CARGO_TARGET_DIR=/target"
export RUSTFLAGS CARGO_TARGET_DIR

say() { echo "+ $*" >&2; "$@" >&2; }
cannot() { echo "error: $target cannot be built here: $*" >&2; exit 3; }

if [ $libc = musl ] && [ "$program" != edge-agent ]; then
    echo "error: $program is not built for $target: it loads the drivers of a GPU" >&2; exit 2
fi
if [ "$rust_target" != "$host" ]; then
    # musl and its start files come with Rust; C sources are compiled with headers alone.
    includes=/usr/$gnu/include
    if [ "$gnu" = "${host%%-*}-linux-gnu" ]; then includes=/usr/include/$gnu; else
        sh cross/debian-packages.sh "gcc-$gnu" "libc6-dev-$deb_arch-cross" >&2 ||
            cannot "no C compiler and C library for it; install the packages that are named above"
    fi
    upper=$(echo "$rust_target" | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${upper}_LINKER=$gnu-gcc"
    export "CC_$(echo "$rust_target" | tr - _)=$gnu-gcc" "AR_$(echo "$rust_target" | tr - _)=$gnu-ar"
    export "BINDGEN_EXTRA_CLANG_ARGS_$(echo "$rust_target" | tr - _)=-I$includes"
    if [ "${CROSS:-}" = 1 ]; then
        command -v cross >/dev/null || cannot "CROSS=1, and there is no cross; see github.com/cross-rs/cross"
        cargo=cross
    elif [ -d "$(rustc --print sysroot)/lib/rustlib/$rust_target/lib" ]; then
        :
    elif command -v rustup >/dev/null && rustup target add "$rust_target" >&2; then
        :
    elif [ $libc = musl ]; then
        cannot "no standard library of Rust for it: rustup target add $rust_target, or CROSS=1"
    else
        # Flags reach the proc macros and build scripts of this machine through --target; see cargo's documentation.
        RUSTC=$(sh cross/debian-rust.sh "$deb_arch") ||
            cannot "no standard library of Rust for it: rustup target add $rust_target, or CROSS=1, or what is said above"
        export RUSTC
        CARGO_TARGET_DIR=$CARGO_TARGET_DIR/debian-rust
    fi
fi
# What writes the pages knows both programs: built in one go with the larger one, their crates are built once.
also=""
[ $profile != release ] || [ "$rust_target" != "$host" ] || also="-p dc-encoder -p pages --bin dc-encoder --bin pages"
# shellcheck disable=SC2086 # a list of words
say "${cargo:-cargo}" build --locked --profile $profile --target "$rust_target" ${also:--p "$program" --bin "$program"}
built=$CARGO_TARGET_DIR/$rust_target/$profile/$program
[ "$program" = pages ] || sh cross/check-glibc.sh "$built" "$libc_floor" >&2
echo "$built"
