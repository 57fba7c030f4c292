#!/bin/sh
# The licence in Debian's machine-readable form (DEP 5).
set -eu
cd "$(dirname "$0")/.."
cat <<HEAD
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Fine-Tuned Heads

Files: *
Copyright: $(sed -n 's/^Copyright (c) //p' LICENSE)
License: MIT

License: MIT
HEAD
# The text without its title and copyright line; empty lines are dots there.
sed -e '1,/^Copyright/d' LICENSE | sed -e '1{/^$/d}' -e 's/^$/./' -e 's/^/ /'
