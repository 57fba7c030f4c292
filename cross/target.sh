# Sourced with $target set: names of a camera box's architecture. Sets rust_target, deb_arch, gnu (the triplet of Debian's
# compilers), qemu (the emulator that runs its programs), libc (gnu, or musl: linked statically), libc_floor.
case "$target" in
    x86_64)  rust_target=x86_64-unknown-linux-gnu       deb_arch=amd64 gnu=x86_64-linux-gnu      qemu=x86_64 ;;
    aarch64) rust_target=aarch64-unknown-linux-gnu      deb_arch=arm64 gnu=aarch64-linux-gnu     qemu=aarch64 ;;
    armv7)   rust_target=armv7-unknown-linux-gnueabihf  deb_arch=armhf gnu=arm-linux-gnueabihf   qemu=arm ;;
    x86_64-musl)  rust_target=x86_64-unknown-linux-musl  deb_arch=amd64 gnu=x86_64-linux-gnu  qemu=x86_64 ;;
    aarch64-musl) rust_target=aarch64-unknown-linux-musl deb_arch=arm64 gnu=aarch64-linux-gnu qemu=aarch64 ;;
    *) echo "error: TARGET=$target is none of x86_64, aarch64, armv7, x86_64-musl, aarch64-musl" >&2; exit 2 ;;
esac
# Oldest C library that the programs run with: Debian 12's, Ubuntu 24.04's.
case $target in *-musl) libc=musl libc_floor=static ;; *) libc=gnu libc_floor=2.36 ;; esac
host=$(rustc -vV | sed -n 's/^host: //p')
# TARGET of this machine.
here=${host%%-*}
[ "$here" != arm ] || here=armv7
out=${CARGO_TARGET_DIR:-$PWD/target}/boxes
