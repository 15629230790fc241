#!/bin/sh
# Installs, builds, and runs the main job once on the embedded model: 4 ranks prefill a long text with a
# pass key in it into a cache file, 2 ranks answer a question from that file. Then the same under a
# sliding window of the same cost. Usage: launch/quickstart.sh [FOLDER FOR THE RESULT]
set -eu
case ${1:-/} in
  /*) ;;
  *) set -- "$PWD/$1" ;;
esac
cd "$(dirname "$0")/.."
out=${1:-build/quickstart}

launch/install-debian.sh
cmake --preset release >/dev/null
cmake --build --preset release --target powerprefill_cli
mkdir -p "$out"

# Without standard input: mpirun would read the lines that follow in the terminal or script that called this.
question=" What is the pass key? The pass key is"

read_text() ( # CACHE [OPTIONS]
  cache=$1
  shift
  set -x
  launch/local-mpirun -np 4 build/powerprefill prefill --model data/model --prompt-file data/prompt.txt --out "$cache" --force "$@"
) </dev/null
answer() ( # CACHE
  set -x
  launch/local-mpirun -np 2 build/powerprefill decode "$1" --model data/model --prompt "$question" --max-new-tokens 7
) </dev/null

read_text "$out/power.h5"
build/powerprefill inspect "$out/power.h5"
power=$(answer "$out/power.h5")
read_text "$out/sliding.h5" --attention sliding --block 32 --window 10 --sink 1
sliding=$(answer "$out/sliding.h5")
echo
echo "data/prompt.txt, $(wc -c < data/prompt.txt) characters: \"...$(grep -o 'The pass key is [^.]*' data/prompt.txt)...\""
echo "$question ..."
echo "  power attention, 11 of 512 blocks: $power"
echo "  a sliding window, 11 of 512 blocks:$sliding"
