// What a checkpoint's config.json says, checked and in our words; families/ reads it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "model/recipe.hpp"
#include "model/tensors.hpp"
#include "powerprefill/model.hpp"

namespace powerprefill {

// Rotary position embedding as the checkpoint describes it (`rope_parameters`, or the older
// `rope_theta` + `rope_scaling`). Fields that a type does not use keep their defaults.
struct RopeParameters {
  std::string type = "default";  // default, linear, llama3 or yarn
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0;                           // llama3
  double high_freq_factor = 4.0;                          // llama3
  std::int64_t original_max_positions = 0;                // llama3, yarn
  double beta_fast = 32.0;                                // yarn
  double beta_slow = 1.0;                                 // yarn
  std::optional<double> attention_factor = std::nullopt;  // yarn
  std::optional<double> mscale = std::nullopt;            // yarn
  std::optional<double> mscale_all_dim = std::nullopt;    // yarn
  bool truncate = true;                                   // yarn
};

// A family writes it (families/), but for end tokens and power_attention.
struct ModelConfig {
  std::string family;             // llama, mistral, qwen2 or qwen3 (config.json's model_type)
  std::int64_t vocabulary = 0;    // V
  std::int64_t hidden = 0;        // E
  std::int64_t layers = 0;        // N
  std::int64_t heads = 0;         // H, a multiple of G
  std::int64_t kv_heads = 0;      // G
  std::int64_t head_dim = 0;      // D, even
  std::int64_t feed_forward = 0;  // F
  std::int64_t max_positions = 0;
  float norm_epsilon = 1e-6F;
  bool qkv_bias = false;         // biases on the q, k and v projections
  bool qk_norm = false;          // RMSNorm over each head of q and k, before RoPE
  bool tied_embeddings = false;  // the output head is the embedding
  RopeParameters rope;
  std::vector<std::int32_t>
      end_tokens;  // from generation_config.json, else config.json; may be empty
  // Why generation_config.json, which only decoding needs, cannot be used; else empty.
  std::string end_tokens_problem;
  ModelRecipe recipe;           // what it computes
  ModelTensors tensors;         // and from which tensors
  std::string power_attention;  // config.json's `power_attention` object as JSON, or empty
  std::vector<ModelNote> notes;
};

// What describe_model() tells.
ModelSummary summary_of(const ModelConfig& config);

// A hash over everything in the config that changes what the model computes, in hexadecimal. Key
// order, old or new spelling and unrelated keys of the file do not matter.
std::string fingerprint_of(const ModelConfig& config);

// The RoPE parameters as canonical JSON, for the cache file.
std::string rope_to_json(const RopeParameters& rope);

}  // namespace powerprefill
