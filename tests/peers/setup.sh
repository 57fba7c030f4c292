#!/bin/sh
# A Python with numpy and the packages named as arguments, for the peers: $PYTHON if it has them, else a virtual
# environment in .venv, or $VENV for those that pin what others need newer (made once; PyTorch is a large download). Prints
# the interpreter's path.
set -eu
# Some packages are imported under other names; extras in brackets are no part of any.
modules=$(echo numpy "$@" | sed 's/grpcio/grpc/; s/pillow/PIL/; s/label-studio/label_studio/; s/\[[a-z0-9]*\]//g' | tr ' ' ',')
if [ -n "${PYTHON:-}" ]; then
    "$PYTHON" -c "import $modules" >&2 || { echo "$PYTHON lacks one of $modules: pip install numpy $*" >&2; exit 1; }
    # Benches run in their own folder: a path is given as a whole one.
    case $PYTHON in
    [!/]*/*) echo "$PWD/$PYTHON" ;;
    *) echo "$PYTHON" ;;
    esac
    exit
fi
venv=$(cd "$(dirname "$0")/../.." && pwd)/${VENV:-.venv}
if ! "$venv/bin/python" -c "import $modules" 2>/dev/null; then
    echo "+ python3 -m venv ${VENV:-.venv}; pip install numpy $*" >&2
    python3 -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet numpy "$@" >&2
fi
echo "$venv/bin/python"
