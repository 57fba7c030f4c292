#!/bin/sh
# reproduce.sh [TARGET…]: builds the packages of this commit here and once more from a clone in another folder, and compares
# every byte.
set -eu
cd "$(dirname "$0")/.."
[ -z "$(git status --porcelain)" ] || { echo "error: what is compared is a commit, and files here are not in it: git status" >&2; exit 2; }
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR
sh cross/packages.sh "$@"
other=$(mktemp -d)
trap 'rm -rf "$other"' EXIT
git clone -q . "$other/again"
(cd "$other/again" && CARGO_TARGET_DIR=$other/target sh cross/packages.sh "$@")
cd "$other/target/boxes"
differing=0
for package in *.deb *.tar.gz; do
    if cmp "$package" "$CARGO_TARGET_DIR/boxes/$package"; then echo "the same bytes: $package"; else differing=$((differing + 1)); fi
done
verdict=met
[ $differing = 0 ] || verdict=missed
echo "packages that differ: goal=0 measured=$differing $verdict"
