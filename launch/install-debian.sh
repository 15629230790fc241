#!/bin/sh
# Installs what powerprefill is built with and tested with, from Debian's own packages (Debian 12 or later).
# Recommended packages are left out: they bring Fortran, OpenCL and manuals.
set -eu
packages=$(sed 's/ *#.*//' <<'END'
build-essential
cmake
ninja-build
pkg-config
openmpi-bin           # mpirun, with an ssh client for jobs over several hosts
libopenmpi-dev
libopenblas-dev       # with it comes the flavour for threads
libdnnl-dev
libhdf5-dev           # without MPI: ranks write by themselves
libfmt-dev
libcli11-dev
nlohmann-json3-dev
libxxhash-dev         # its header; the tests' Python loads the library
libhwy-dev
libpcre2-dev
libutf8proc-dev
libsentencepiece-dev
sentencepiece         # spm_train and spm_encode: a test compares with them
libgtest-dev
python3
python3-numpy
python3-h5py          # with an HDF5 of its own, without MPI: tests read what the program writes
END
)
missing=""
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

give_up() { # WHY
  echo "launch/install-debian.sh: $1. Missing, by Debian's names:$missing" >&2
  exit 1
}
command -v apt-get >/dev/null || give_up "this is not Debian"
as_root=""
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || give_up "you are not root, and there is no sudo; ask root to run this"
  as_root="sudo"
fi
# Of several sources one may fail and the packages still be there: installing them tells.
$as_root apt-get update -q || true
# shellcheck disable=SC2086  # lists of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing ||
  give_up "apt-get failed, see above; it needs a mirror of Debian 12 or later, and a user who may install"
