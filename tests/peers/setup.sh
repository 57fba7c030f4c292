#!/bin/sh
# A Python with PyTorch for the peers: $PYTHON if it has it, else a virtual environment in .venv (made once; the
# download is large). Prints the interpreter's path.
set -eu
if [ -n "${PYTHON:-}" ]; then
    "$PYTHON" -c 'import torch' >&2 || { echo "$PYTHON has no torch: pip install torch numpy" >&2; exit 1; }
    echo "$PYTHON"
    exit
fi
venv=$(dirname "$0")/../../.venv
if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    echo "+ python3 -m venv .venv; pip install torch numpy" >&2
    python3 -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet torch numpy >&2
fi
echo "$venv/bin/python"
