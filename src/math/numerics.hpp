// What the bits of a result depend on.
#pragma once

#include <string>

namespace powerprefill {

// The numerics id of this process for f32 compute: BLAS version and kernels, instruction set, tile
// shapes. Two processes with equal ids compute equal bits.
std::string numerics_id();

}  // namespace powerprefill
