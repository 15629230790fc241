#!/bin/bash
# How the C++ is written: clang-format over every file, and clang-tidy with the checks of .clang-tidy over the
# sources of the library and the program and the headers that they include.
#
#   tests/lint.sh [PART OF A PATH...]     clang-tidy over these alone, e.g. src/pattern; over src/cli, whose
#                                         files are compiled in groups: powerprefill_cli
#
# Needs Debian 12's clang-format, clang-tidy-16 and libomp-16-dev (clang's omp.h): other versions have other
# opinions, and version 14, Debian's usual one, does not know std::source_location.
set -euo pipefail
cd "$(dirname "$0")/.."

find src include tests bench \( -name '*.[ch]pp' -o -name '*.c' \) -print0 |
  xargs -0 clang-format --dry-run -Werror

# Compile commands for clang, which cannot read headers that GCC has precompiled.
cmake -S . -B build-lint -G Ninja -DPOWERPREFILL_TESTS=OFF -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON >/dev/null
run-clang-tidy-16 -p build-lint -j "$(nproc)" -quiet "$@" \
  2> >(grep -v 'warnings\? generated' >&2)  # in foreign headers, and not shown
