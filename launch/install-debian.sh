#!/bin/sh
# Installs what powerprefill is built with and tested with, from Debian's own packages (Debian 12 or later).
set -eu
packages="build-essential cmake ninja-build pkg-config openmpi-bin libopenmpi-dev libopenblas-dev libdnnl-dev
  libhdf5-openmpi-dev libfmt-dev libcli11-dev nlohmann-json3-dev libxxhash-dev libhwy-dev
  libpcre2-dev libutf8proc-dev libsentencepiece-dev sentencepiece
  libgtest-dev python3 python3-numpy python3-h5py"
missing=""
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -q
# shellcheck disable=SC2086  # a list of words
$as_root apt-get install -q -y --no-install-recommends $missing
