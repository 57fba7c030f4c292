#!/bin/sh
# check-glibc.sh FILE FLOOR: prints the newest version of the C library that a program wants, and fails if that is
# newer than FLOOR; `static` if it wants no library and no loader, which a FLOOR of `static` demands.
set -eu
if ! readelf --program-headers --dynamic --wide "$1" | grep -Eq '\(NEEDED\)|INTERP'; then echo static; exit 0; fi
[ "$2" != static ] || { echo "error: $1 is not linked statically" >&2; exit 1; }
# Every architecture's names are in the same table; binutils of this machine reads them all.
wants=$(readelf --version-info --wide "$1" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -Vu | tail -1)
newest=$(printf '%s\n%s\n' "$wants" "$2" | sort -V | tail -1)
[ "$newest" = "$2" ] || { echo "error: $1 wants glibc $wants, the floor is $2" >&2; exit 1; }
echo "glibc $wants"
