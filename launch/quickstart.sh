#!/bin/sh
# Installs, builds, and runs the main job once on the embedded model: 4 ranks prefill a prompt into one
# cache file, 2 ranks decode from it. Usage: launch/quickstart.sh [FOLDER FOR THE RESULT]
set -eu
cd "$(dirname "$0")/.."
out=${1:-build/quickstart}

launch/install-debian.sh
cmake --preset release >/dev/null
cmake --build --preset release --target powerprefill_cli
mkdir -p "$out"

# More ranks than cores are fine for a try; root needs a flag of its own.
run="mpirun --oversubscribe"
[ "$(id -u)" != 0 ] || run="$run --allow-run-as-root"
set -x
$run -np 4 build/powerprefill prefill --model data/model --tokens data/prompt.txt --out "$out/prompt.h5" --force
build/powerprefill inspect "$out/prompt.h5"
$run -np 2 build/powerprefill decode "$out/prompt.h5" --model data/model --max-new-tokens 16
