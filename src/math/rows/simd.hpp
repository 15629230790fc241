// Instruction sets that the Highway kernels are compiled for: baseline, SSE4, AVX2 and AVX-512. The
// ones between bring nothing here and would only cost compile time; vectors without a size cannot
// be held in arrays.
#pragma once

#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
