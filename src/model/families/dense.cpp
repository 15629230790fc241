#include "model/families/dense.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "json/json.hpp"
#include "math/attention/attention.hpp"
#include "model/families/read_rope.hpp"
#include "model/rope_frequencies.hpp"

namespace powerprefill {

using nlohmann::json;

namespace {

constexpr std::int64_t kLargestSize = (std::int64_t{1} << 24) - 1;
constexpr std::int64_t kMostLayers = std::int64_t{1} << 14;
constexpr std::int64_t kMostPositions = std::int64_t{1} << 40;

void read_sizes(const JsonFields& fields, const DenseDefaults& defaults, ModelConfig& config) {
  const auto size = [&](const char* key, std::int64_t highest) {
    return fields.need(key, fields.integer(key, 1, highest));
  };
  config.vocabulary = size("vocab_size", kLargestSize);
  config.hidden = size("hidden_size", kLargestSize);
  config.layers = size("num_hidden_layers", kMostLayers);
  config.heads = size("num_attention_heads", kLargestSize);
  config.feed_forward = size("intermediate_size", kLargestSize);
  config.max_positions =
      fields.integer("max_position_embeddings", 1, kMostPositions).value_or(defaults.max_positions);
  // A null means one key head per query head; an absent key, the family's default.
  const bool as_queries = defaults.kv_heads == 0 || fields.mentions("num_key_value_heads");
  config.kv_heads = fields.integer("num_key_value_heads", 1, kLargestSize)
                        .value_or(as_queries ? config.heads : defaults.kv_heads);
  if (config.heads % config.kv_heads != 0) {
    fields.fail("num_key_value_heads", fmt::format("is {}, which does not divide the {} of "
                                                   "`num_attention_heads`",
                                                   config.kv_heads, config.heads));
  }
  const std::optional<std::int64_t> head_dim = fields.integer("head_dim", 1, kLargestHead);
  if (!head_dim && defaults.head_dim == 0 && config.hidden % config.heads != 0) {
    fields.fail("num_attention_heads", fmt::format("is {}, which does not divide `hidden_size` {}",
                                                   config.heads, config.hidden));
  }
  config.head_dim =
      head_dim.value_or(defaults.head_dim != 0 ? defaults.head_dim : config.hidden / config.heads);
  if (config.head_dim % 2 != 0 || config.head_dim > kLargestHead) {
    fields.fail("head_dim", fmt::format("is {}; only even sizes up to {} are supported",
                                        config.head_dim, kLargestHead));
  }
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

ModelRecipe dense_recipe(const ModelConfig& config) {
  ModelRecipe recipe;
  recipe.vocabulary = config.vocabulary;
  recipe.hidden = config.hidden;
  recipe.final_norm_epsilon = config.norm_epsilon;
  recipe.ropes = {rope_frequencies(config.rope, config.head_dim)};
  recipe.layers.assign(static_cast<std::size_t>(config.layers),
                       {.heads = config.heads,
                        .kv_heads = config.kv_heads,
                        .head_dim = config.head_dim,
                        .feed_forward = config.feed_forward,
                        .norm_epsilon = config.norm_epsilon,
                        .score_scale = 1.0F / std::sqrt(static_cast<float>(config.head_dim))});
  return recipe;
}

LayerTensors dense_layer(const ModelConfig& c, const std::string& prefix) {
  const std::string attention = prefix + "self_attn.";
  const std::string mlp = prefix + "mlp.";
  const std::int64_t q_rows = c.heads * c.head_dim;
  const std::int64_t kv_rows = c.kv_heads * c.head_dim;
  LayerTensors layer;
  layer.input_norm = {{prefix + "input_layernorm.weight", {c.hidden}}};
  layer.query = {{attention + "q_proj.weight", {q_rows, c.hidden}}};
  layer.key_value = {{attention + "k_proj.weight", {kv_rows, c.hidden}},
                     {attention + "v_proj.weight", {kv_rows, c.hidden}}};
  if (c.qkv_bias) {
    layer.query_bias = {{attention + "q_proj.bias", {q_rows}}};
    layer.key_value_bias = {{attention + "k_proj.bias", {kv_rows}},
                            {attention + "v_proj.bias", {kv_rows}}};
  }
  if (c.qk_norm) {
    layer.q_norm = {{attention + "q_norm.weight", {c.head_dim}}};
    layer.k_norm = {{attention + "k_norm.weight", {c.head_dim}}};
  }
  layer.attention_out = {{attention + "o_proj.weight", {c.hidden, q_rows}}};
  layer.post_norm = {{prefix + "post_attention_layernorm.weight", {c.hidden}}};
  layer.gate = {{mlp + "gate_proj.weight", {c.feed_forward, c.hidden}}};
  layer.up = {{mlp + "up_proj.weight", {c.feed_forward, c.hidden}}};
  layer.down = {{mlp + "down_proj.weight", {c.hidden, c.feed_forward}}};
  return layer;
}

ModelTensors dense_tensors(const ModelConfig& config) {
  ModelTensors tensors;
  tensors.embedding = {"model.embed_tokens.weight", {config.vocabulary, config.hidden}};
  tensors.output_head = {"lm_head.weight", {config.vocabulary, config.hidden}};
  tensors.tied = config.tied_embeddings;
  tensors.final_norm = {{"model.norm.weight", {config.hidden}}};
  tensors.layer_prefix = "model.layers.";
  for (std::int64_t i = 0; i < config.layers; ++i) {
    tensors.layers.push_back(dense_layer(config, fmt::format("{}{}.", tensors.layer_prefix, i)));
  }
  return tensors;
}

}  // namespace

void read_dense(const JsonFields& fields, const DenseDefaults& defaults, ModelConfig& config) {
  read_sizes(fields, defaults, config);
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
}

void describe_dense(ModelConfig& config) {
  config.recipe = dense_recipe(config);
  config.tensors = dense_tensors(config);
}

void refuse_window(const JsonFields& fields, const char* key, const std::string& problem) {
  const json* window = fields.find("sliding_window");
  const bool has_window = window != nullptr || !fields.mentions("sliding_window");
  if (!has_window) return;
  const std::string value = window != nullptr ? quoted(*window) : "4096, transformers' default";
  fields.fail(key, fmt::format(fmt::runtime(problem), value));
}

void refuse_layer_types(const JsonFields& fields) {
  const json* types = fields.find("layer_types");
  if (types == nullptr) return;
  if (!types->is_array()) fields.fail("layer_types", "is not a list of names");
  for (const json& type : *types) {
    if (type != "full_attention") {
      fields.fail("layer_types",
                  fmt::format("has {}; only \"full_attention\" is supported", quoted(type)));
    }
  }
}

void refuse_activation(const JsonFields& fields) {
  const std::string activation = fields.text("hidden_act").value_or("silu");
  if (activation != "silu") {
    fields.fail("hidden_act", fmt::format("`{}` is not supported; supported is silu", activation));
  }
}

void refuse_attention_bias(const JsonFields& fields) {
  if (!fields.boolean("attention_bias").value_or(false)) return;
  fields.fail("attention_bias",
              "is true: it gives o_proj (self_attn.o_proj.bias) a bias, which is not supported");
}

void refuse_mlp_bias(const JsonFields& fields) {
  if (!fields.boolean("mlp_bias").value_or(false)) return;
  fields.fail("mlp_bias", "is true: biases in the feed-forward layers are not supported");
}

}  // namespace powerprefill
