// The families of checkpoints: one function each, which reads config.json and says what such a
// model computes and how its tensors are called.
#pragma once

#include <cstdint>
#include <string_view>

#include "json/json_fields.hpp"
#include "model/config.hpp"

namespace powerprefill {

struct Family {
  std::string_view name;          // config.json's `model_type`
  std::string_view architecture;  // what its `architectures` holds
  // Fills the config but for what every checkpoint has: end tokens, power_attention. Throws
  // Error(input) for what is not supported.
  void (*read)(const JsonFields& fields, ModelConfig& config);
};

// The family that config.json names. Throws Error(input), naming those that are supported.
const Family& family_of(const JsonFields& fields);

// families/llama.cpp, mistral.cpp and qwen.cpp.
void read_llama(const JsonFields& fields, ModelConfig& config);
void read_mistral(const JsonFields& fields, ModelConfig& config);
void read_qwen2(const JsonFields& fields, ModelConfig& config);
void read_qwen3(const JsonFields& fields, ModelConfig& config);

}  // namespace powerprefill
