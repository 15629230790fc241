// Decoders of Llama's build: RMSNorm, rotary attention with grouped heads, a gated feed-forward
// layer. Families differ in what they take for absent keys, and in biases and head norms.
#pragma once

#include <cstdint>
#include <string>

#include "json/json_fields.hpp"
#include "model/config.hpp"

namespace powerprefill {

// What transformers' config classes take for absent keys.
struct DenseDefaults {
  std::int64_t kv_heads = 0;  // 0: as many as query heads
  std::int64_t head_dim = 0;  // 0: E / H
  std::int64_t max_positions = 0;
};

// Reads sizes, epsilon, rope and tied embeddings, and notes what has no effect.
void read_dense(const JsonFields& fields, const DenseDefaults& defaults, ModelConfig& config);

// Writes recipe and tensors from everything else in `config`.
void describe_dense(ModelConfig& config);

// Refuse, with Error(input), what such a layer does not do: a window of the checkpoint's own, which
// would be another attention (`problem` holds {} for its size)...
void refuse_window(const JsonFields& fields, const char* key, const std::string& problem);
// ...layers of other kinds than full attention, activations but SiLU, biases.
void refuse_layer_types(const JsonFields& fields);
void refuse_activation(const JsonFields& fields);
void refuse_attention_bias(const JsonFields& fields);
void refuse_mlp_bias(const JsonFields& fields);

}  // namespace powerprefill
