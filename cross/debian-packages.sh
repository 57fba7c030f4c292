#!/bin/sh
# Installs the Debian/Ubuntu packages that building and testing need; prints the command before running it.
# Does nothing when all are there. More packages can be named as arguments. Packages and why:
#   build-essential  C compiler and linker for crates with C parts (ring); tests compile the CUDA kernels for the
#                    processor with its g++
#   libclang-dev     bindgen reads the kernel's Video4Linux2 header through it (crate v4l)
#   ffmpeg           the agent's video files and streams run through it; tests make their streams with it
#   libvulkan1, mesa-vulkan-drivers
#                    tests run the encoder's wgpu path on software Vulkan (lavapipe)
#   mosquitto, mosquitto-clients
#                    tests tell a real MQTT broker the agent's answers, and listen to it (Debian starts one for this
#                    machine alone, which nothing here needs: systemctl disable --now mosquitto)
set -eu

packages="build-essential libclang-dev ffmpeg libvulkan1 mesa-vulkan-drivers mosquitto mosquitto-clients $*"
missing=""
for package in $packages; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "error: this is not Debian or Ubuntu; install what these packages hold, by your own means:$missing" >&2
    exit 1
fi
root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "error: missing$missing; run as root: apt-get install$missing" >&2; exit 1; }
    root=sudo
fi
echo "+ $root apt-get update && $root apt-get install --yes --no-install-recommends$missing"
$root apt-get update -q
# A machine that was just installed is often at its own upgrades: those are waited for.
# shellcheck disable=SC2086 # a list of words
$root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install --yes --no-install-recommends $missing
