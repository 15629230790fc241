// What a model computes, as data. Prefill and decoding read the same recipe; a family of
// checkpoints is a function that writes one (families/).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "math/rows/row_ops.hpp"

namespace powerprefill {

// The angle of pair i at position p is float32(inv_freq[i]) x float32(p), in float32, as
// transformers computes it; cosine and sine are multiplied by `attention_scaling`. Where a head has
// more than 2 pairs elements, the others are not turned.
struct RopeFrequencies {
  std::vector<float> inv_freq;  // (pairs)
  float attention_scaling = 1.0F;
};

// One layer:
//   h += out(attention(turn(q(norm(h))), turn(k(norm(h))), v(norm(h))))
//   h += down(activation(gate(norm(h))) up(norm(h)))
// where norm is RMSNorm, and turn is RMSNorm over each head, if the layer has it, then RoPE.
struct LayerRecipe {
  std::int64_t heads = 0;         // H, a multiple of G
  std::int64_t kv_heads = 0;      // G
  std::int64_t head_dim = 0;      // D
  std::int64_t feed_forward = 0;  // F
  float norm_epsilon = 1e-6F;
  int rope = 0;           // place in ModelRecipe::ropes; -1: positions are not encoded
  float score_scale = 1;  // of q . k, before the softmax
  Activation activation = Activation::silu;

  std::int64_t group() const { return heads / kv_heads; }
};

struct ModelRecipe {
  std::int64_t vocabulary = 0;  // V
  std::int64_t hidden = 0;      // E
  float final_norm_epsilon = 1e-6F;
  std::vector<RopeFrequencies> ropes;
  std::vector<LayerRecipe> layers;  // (N)
};

}  // namespace powerprefill
