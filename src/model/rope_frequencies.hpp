// The frequencies of rotary position embedding.
#pragma once

#include <vector>

#include "model/config.hpp"

namespace powerprefill {

// The angle of pair i at position p is float32(inv_freq[i]) x float32(p), in float32, as
// transformers computes it; cosine and sine are multiplied by `attention_scaling`.
struct RopeFrequencies {
  std::vector<float> inv_freq;  // (D / 2)
  float attention_scaling = 1.0F;
};

// Source: transformers' modeling_rope_utils, all in the arithmetic (float32 or double) used there.
RopeFrequencies rope_frequencies(const ModelConfig& config);

}  // namespace powerprefill
