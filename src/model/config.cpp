#include "model/config.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/hash.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill {

using nlohmann::json;

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

ModelSummary summary_of(const ModelConfig& config) {
  return {.family = config.family,
          .vocabulary = config.vocabulary,
          .layers = config.layers,
          .max_positions = config.max_positions,
          .power_attention = config.power_attention,
          .notes = config.notes};
}

void require_tokens(std::int64_t vocabulary, std::span<const std::int32_t> tokens) {
  if (tokens.empty()) {
    throw Error(ErrorCode::input, "the prompt is empty; give at least one token");
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < vocabulary) continue;
    throw Error(ErrorCode::input,
                fmt::format("token {} of the prompt has id {}, outside the vocabulary of {}; was "
                            "it made for another model?",
                            i, tokens[i], vocabulary));
  }
}

std::string rope_to_json(const RopeParameters& rope) {
  json object = {{"rope_type", rope.type}, {"rope_theta", rope.theta}};
  if (rope.type != "default") object["factor"] = rope.factor;
  if (rope.type == "llama3" || rope.type == "yarn") {
    object["original_max_position_embeddings"] = rope.original_max_positions;
  }
  if (rope.type == "llama3") {
    object["low_freq_factor"] = rope.low_freq_factor;
    object["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.type == "yarn") {
    object["beta_fast"] = rope.beta_fast;
    object["beta_slow"] = rope.beta_slow;
    object["truncate"] = rope.truncate;
    if (rope.attention_factor) object["attention_factor"] = *rope.attention_factor;
    if (rope.mscale) object["mscale"] = *rope.mscale;
    if (rope.mscale_all_dim) object["mscale_all_dim"] = *rope.mscale_all_dim;
  }
  return object.dump();
}

}  // namespace powerprefill
