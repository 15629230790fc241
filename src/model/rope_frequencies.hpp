// The frequencies of rotary position embedding.
#pragma once

#include <cstdint>

#include "model/config.hpp"

namespace powerprefill {

// Source: transformers' modeling_rope_utils, all in the arithmetic (float32 or double) used there.
// `head_dim`: elements of a head that are turned, even.
RopeFrequencies rope_frequencies(const RopeParameters& rope, std::int64_t head_dim);

}  // namespace powerprefill
