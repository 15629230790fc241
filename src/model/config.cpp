#include "model/config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/hash.hpp"
#include "json/json.hpp"
#include "json/json_fields.hpp"
#include "math/attention/attention.hpp"
#include "model/config_rope.hpp"

namespace powerprefill {

using nlohmann::json;

namespace {

constexpr std::int64_t kLargestSize = (std::int64_t{1} << 24) - 1;
constexpr std::int64_t kMostLayers = std::int64_t{1} << 14;
constexpr std::int64_t kMostPositions = std::int64_t{1} << 40;

// What transformers' config and model classes fix for a family, and take for absent keys.
struct Family {
  std::string_view name;
  std::string_view architecture;
  std::int64_t kv_heads;  // 0: as many as query heads
  std::int64_t head_dim;  // 0: E / H
  std::int64_t max_positions;
  bool qkv_bias;
  bool qk_norm;
};

constexpr std::array<Family, 4> kFamilies = {{
    {"llama", "LlamaForCausalLM", 0, 0, 2048, false, false},
    {"mistral", "MistralForCausalLM", 8, 0, 131072, false, false},
    {"qwen2", "Qwen2ForCausalLM", 32, 0, 32768, true, false},
    {"qwen3", "Qwen3ForCausalLM", 32, 128, 32768, false, true},
}};

std::string supported() {
  std::vector<std::string_view> names;
  for (const Family& family : kFamilies) names.push_back(family.architecture);
  return fmt::format("supported are {}", fmt::join(names, ", "));
}

const Family* family_by_model_type(const JsonFields& config) {
  const std::optional<std::string> type = config.text("model_type");
  if (!type) return nullptr;
  const auto found = std::ranges::find(kFamilies, *type, &Family::name);
  if (found == kFamilies.end()) {
    config.fail("model_type", fmt::format("`{}` is not supported; {}", *type, supported()));
  }
  return &*found;
}

const Family* family_by_architecture(const JsonFields& config) {
  const json* list = config.find("architectures");
  if (list == nullptr) return nullptr;
  if (!list->is_array()) config.fail("architectures", "is not a list of names");
  const Family* family = nullptr;
  for (const json& name : *list) {
    if (!name.is_string()) config.fail("architectures", "is not a list of names");
    const auto found = std::ranges::find(kFamilies, name.get<std::string>(), &Family::architecture);
    if (found == kFamilies.end()) {
      config.fail("architectures",
                  fmt::format("names {}, which is not supported; {}", quoted(name), supported()));
    }
    if (family != nullptr && family != &*found) {
      config.fail("architectures", fmt::format("names several families: {}", quoted(*list)));
    }
    family = &*found;
  }
  return family;
}

const Family& family_of(const JsonFields& config) {
  // The architecture is looked at first: it names an unsupported model more exactly.
  const Family* by_architecture = family_by_architecture(config);
  const Family* by_type = family_by_model_type(config);
  if (by_architecture != nullptr && by_type != nullptr && by_architecture != by_type) {
    config.fail("model_type", fmt::format("is {} but `architectures` says {}; correct the file",
                                          by_type->name, by_architecture->architecture));
  }
  if (by_architecture == nullptr) by_architecture = by_type;
  if (by_architecture == nullptr) {
    config.fail("model_type", "is missing, and so is `architectures`; " + supported());
  }
  return *by_architecture;
}

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

// A window of the checkpoint's own would be an attention that powerprefill does not compute.
void refuse_sliding_window(const JsonFields& config, const Family& family) {
  const json* window = config.find("sliding_window");
  const std::string value = window != nullptr ? quoted(*window) : "4096, transformers' default";
  const bool has_window = window != nullptr || !config.mentions("sliding_window");
  if (family.name == "mistral" && has_window) {
    config.fail("sliding_window",
                fmt::format("is {}: sliding window attention of a checkpoint is not supported; use "
                            "a checkpoint with \"sliding_window\": null",
                            value));
  }
  const bool uses_window = config.boolean("use_sliding_window").value_or(false);
  if ((family.name == "qwen2" || family.name == "qwen3") && uses_window && has_window) {
    config.fail("use_sliding_window",
                fmt::format("is true (sliding_window is {}): sliding window attention of a "
                            "checkpoint is not supported",
                            value));
  }
  const json* types = config.find("layer_types");
  if (types == nullptr) return;
  if (!types->is_array()) config.fail("layer_types", "is not a list of names");
  for (const json& type : *types) {
    if (type != "full_attention") {
      config.fail("layer_types",
                  fmt::format("has {}; only \"full_attention\" is supported", quoted(type)));
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

void refuse_other_layers(const JsonFields& config, const Family& family) {
  const std::string activation = config.text("hidden_act").value_or("silu");
  if (activation != "silu") {
    config.fail("hidden_act", fmt::format("`{}` is not supported; supported is silu", activation));
  }
  // Mistral and Qwen2 fix their biases and do not read the key.
  const bool reads_bias = family.name == "llama" || family.name == "qwen3";
  if (config.boolean("attention_bias").value_or(false) && reads_bias) {
    config.fail("attention_bias",
                "is true: it gives o_proj (self_attn.o_proj.bias) a bias, which is not supported");
  }
  if (config.boolean("mlp_bias").value_or(false)) {
    config.fail("mlp_bias", "is true: biases in the feed-forward layers are not supported");
  }
}

void read_shape(const JsonFields& fields, const Family& family, ModelConfig& config) {
  const auto size = [&](const char* key, std::int64_t highest) {
    return fields.need(key, fields.integer(key, 1, highest));
  };
  config.vocabulary = size("vocab_size", kLargestSize);
  config.hidden = size("hidden_size", kLargestSize);
  config.layers = size("num_hidden_layers", kMostLayers);
  config.heads = size("num_attention_heads", kLargestSize);
  config.feed_forward = size("intermediate_size", kLargestSize);
  config.max_positions =
      fields.integer("max_position_embeddings", 1, kMostPositions).value_or(family.max_positions);
  // A null means one key head per query head; an absent key, the family's default.
  const bool as_queries = family.kv_heads == 0 || fields.mentions("num_key_value_heads");
  config.kv_heads = fields.integer("num_key_value_heads", 1, kLargestSize)
                        .value_or(as_queries ? config.heads : family.kv_heads);
  if (config.heads % config.kv_heads != 0) {
    fields.fail("num_key_value_heads", fmt::format("is {}, which does not divide the {} of "
                                                   "`num_attention_heads`",
                                                   config.kv_heads, config.heads));
  }
  const std::optional<std::int64_t> head_dim = fields.integer("head_dim", 1, kLargestHead);
  if (!head_dim && family.head_dim == 0 && config.hidden % config.heads != 0) {
    fields.fail("num_attention_heads", fmt::format("is {}, which does not divide `hidden_size` {}",
                                                   config.heads, config.hidden));
  }
  config.head_dim =
      head_dim.value_or(family.head_dim != 0 ? family.head_dim : config.hidden / config.heads);
  if (config.head_dim % 2 != 0 || config.head_dim > kLargestHead) {
    fields.fail("head_dim", fmt::format("is {}; only even sizes up to {} are supported",
                                        config.head_dim, kLargestHead));
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

// Qwen's attention in chunks equals the usual one as far as the first chunk goes. transformers does
// not have it either.
void note_dual_chunks(const JsonFields& config, std::vector<ModelNote>& notes) {
  constexpr std::int64_t usual_chunk = 8192;
  constexpr std::int64_t usual_local = 1024;
  const std::string key = "dual_chunk_attention_config";
  const std::optional<JsonFields> fields = config.fields(key);
  if (!fields) return;
  const std::int64_t chunk =
      fields->integer("chunk_size", 1, kMostPositions).value_or(usual_chunk) -
      fields->integer("local_size", 0, kMostPositions).value_or(usual_local);
  const std::int64_t trained =
      fields->integer("original_max_position_embeddings", 0, kMostPositions).value_or(0);
  const std::int64_t limit =
      std::max<std::int64_t>(0, trained > 0 ? std::min(chunk, trained) : chunk);
  notes.push_back(
      {fmt::format("the checkpoint's `{}` is not used: as in transformers, attention is "
                   "the usual one, also beyond its {} tokens",
                   key, limit),
       limit});
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
  refuse_sliding_window(fields, family);
  refuse_both_directions(fields);
  refuse_other_layers(fields, family);

  ModelConfig config;
  config.family = family.name;
  config.qkv_bias = family.qkv_bias;
  config.qk_norm = family.qk_norm;
  read_shape(fields, family, config);
  const double epsilon = fields.number("rms_norm_eps").value_or(1e-6);
  if (epsilon < 0 || epsilon > 1) {
    fields.fail("rms_norm_eps", fmt::format("is {}, outside 0 to 1", epsilon));
  }
  config.norm_epsilon = static_cast<float>(epsilon);
  config.tied_embeddings = fields.boolean("tie_word_embeddings").value_or(false);
  config.notes.push_back(
      {fmt::format("the prompt is longer than the model's {} positions", config.max_positions),
       config.max_positions});
  note_dual_chunks(fields, config.notes);
  config.rope = read_rope(fields, config.max_positions, config.notes);
  if (fields.fields("power_attention")) {
    config.power_attention = fields.find("power_attention")->dump();
  }

  read_end_tokens(folder, fields, config);
  return config;
}

std::string fingerprint_of(const ModelConfig& config) {
  // The family's name is not in it: what a family changes is in the other fields. Neither are the
  // end tokens and the longest position, which change no computed value.
  const json object = {{"vocabulary", config.vocabulary},
                       {"hidden", config.hidden},
                       {"layers", config.layers},
                       {"heads", config.heads},
                       {"kv_heads", config.kv_heads},
                       {"head_dim", config.head_dim},
                       {"feed_forward", config.feed_forward},
                       {"norm_epsilon", config.norm_epsilon},
                       {"qkv_bias", config.qkv_bias},
                       {"qk_norm", config.qk_norm},
                       {"tied_embeddings", config.tied_embeddings},
                       {"rope", rope_to_json(config.rope)}};
  return hex_of(hash_of(object.dump()));
}

}  // namespace powerprefill
