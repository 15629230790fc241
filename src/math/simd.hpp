// Instruction sets that the Highway kernels are compiled for: baseline, AVX2 and AVX-512. The ones
// between bring nothing here and would only cost compile time.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
