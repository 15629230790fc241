#include "model/families/load_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "json/json.hpp"
#include "json/json_fields.hpp"
#include "model/families/family.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill {

using nlohmann::json;

namespace {

void refuse_other_kinds_of_model(const JsonFields& config) {
  for (const char* key : {"vision_config", "audio_config", "text_config", "mm_vision_tower"}) {
    if (config.find(key) != nullptr) {
      config.fail(key, "belongs to a multimodal model; only text models are supported");
    }
  }
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts",
                          "num_experts_per_tok", "moe_intermediate_size"}) {
    const json* value = config.find(key);
    if (value != nullptr && *value != 0) {
      config.fail(key, fmt::format("is {}: mixtures of experts are not supported", quoted(*value)));
    }
  }
  // The last is MLX's.
  for (const char* key : {"quantization_config", "compression_config", "quantization"}) {
    if (config.find(key) != nullptr) {
      config.fail(key,
                  "says the weights are quantized, which is not supported; use the checkpoint "
                  "in bf16, f16 or f32");
    }
  }
}

// With either key transformers, or the model's own code, lets tokens attend to later ones.
void refuse_both_directions(const JsonFields& config) {
  if (!config.boolean("is_causal").value_or(true)) {
    config.fail("is_causal", "is false: attention to later tokens is not supported");
  }
  const json* both = config.find("use_bidirectional_attention");
  if (both != nullptr && *both != false) {
    config.fail("use_bidirectional_attention",
                fmt::format("is {}: attention to later tokens is not supported", quoted(*both)));
  }
}

std::optional<std::vector<std::int32_t>> end_tokens_in(const JsonFields& fields) {
  const std::string key = "eos_token_id";
  const json* value = fields.find(key);
  if (value == nullptr) return std::nullopt;
  std::vector<std::int32_t> tokens;
  const json list = value->is_array() ? *value : json::array({*value});
  for (const json& token : list) {
    json holder = json::object();
    holder[key] = token;
    const JsonFields one(holder, fields.where());
    const auto id = one.integer(key, 0, std::numeric_limits<std::int32_t>::max());
    tokens.push_back(static_cast<std::int32_t>(one.need(key, id)));
  }
  return tokens;
}

void read_end_tokens(const std::filesystem::path& folder, const JsonFields& fields,
                     ModelConfig& config) {
  std::optional<std::vector<std::int32_t>> end_tokens;
  const std::filesystem::path generation = folder / "generation_config.json";
  if (std::error_code ignored; std::filesystem::exists(generation, ignored)) {
    try {
      const json settings = read_json_object(generation);
      end_tokens = end_tokens_in(JsonFields(settings, generation.string()));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::input) throw;
      config.end_tokens_problem = error.what();
      config.notes.push_back({fmt::format("decode will refuse this: {}", error.what())});
    }
  }
  if (!end_tokens) end_tokens = end_tokens_in(fields);
  if (end_tokens) config.end_tokens = *end_tokens;
}

}  // namespace

ModelConfig load_config(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  const json object = read_json_object(path);
  const JsonFields fields(object, path.string());
  const Family& family = family_of(fields);
  refuse_other_kinds_of_model(fields);
  refuse_both_directions(fields);
  // Of this type or refused, whether the family heeds them or not.
  for (const char* key : {"use_sliding_window", "attention_bias"}) fields.boolean(key);
  ModelConfig config;
  config.family = family.name;
  family.read(fields, config);
  if (fields.fields("power_attention")) {
    config.power_attention = fields.find("power_attention")->dump();
  }

  read_end_tokens(folder, fields, config);
  return config;
}

ModelSummary describe_model(const std::filesystem::path& folder) {
  return summary_of(load_config(folder));
}

}  // namespace powerprefill
