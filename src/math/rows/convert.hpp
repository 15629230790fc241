// Rows between f32 and the dtypes of the cache and of checkpoints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.hpp"

namespace powerprefill {

// The f32 values of data.size() elements of `dtype` at `bits`.
void widen(DType dtype, const std::byte* bits, std::span<float> data);

// Whether none of the values of `dtype` at `bits` is infinite or no number; as fast as the memory.
bool are_finite(DType dtype, std::span<const std::byte> bits);

// Rounds to nearest, ties to even. Returns whether every value is finite in `dtype`: false when one
// is not finite, or rounds to no finite value (from 65520 on for f16).
bool round_to(DType dtype, std::span<const float> data, std::byte* bits);

}  // namespace powerprefill
