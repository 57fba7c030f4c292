#!/bin/sh
# NVIDIA's run-time compiler (NVRTC) for `make cuda-kernels`: the folder in $NVRTC if it has one, else the wheel in .nvrtc
# (made once, a download of 90 MB). It needs no driver and no card. Prints the folder with libnvrtc.
set -eu
if [ -n "${NVRTC:-}" ]; then
    ls "$NVRTC"/libnvrtc.so* >/dev/null 2>&1 || { echo "error: NVRTC=$NVRTC has no libnvrtc.so" >&2; exit 1; }
    echo "$NVRTC"
    exit
fi
venv=$(cd "$(dirname "$0")/.." && pwd)/.nvrtc
found() { find "$venv" -name 'libnvrtc.so*' 2>/dev/null | head -n 1; }
if [ -z "$(found)" ]; then
    echo "+ python3 -m venv .nvrtc; pip install nvidia-cuda-nvrtc==13.0.*" >&2
    python3 -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet 'nvidia-cuda-nvrtc==13.0.*' >&2
fi
library=$(found)
[ -n "$library" ] || { echo "error: the wheel in $venv has no libnvrtc.so: remove the folder and try again" >&2; exit 1; }
dirname "$library"
