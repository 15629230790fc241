// What the bits of a result depend on.
#pragma once

#include <string>

#include "math/linear/compute.hpp"

namespace powerprefill {

// The numerics id of this process: library versions and kernels, instruction sets, tile shapes. Two
// processes with equal ids compute equal bits.
std::string numerics_id(Compute compute);

}  // namespace powerprefill
