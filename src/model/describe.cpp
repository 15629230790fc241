#include <fmt/format.h>

#include "model/config.hpp"
#include "powerprefill/error.hpp"
#include "powerprefill/model.hpp"

namespace powerprefill {

ModelSummary describe_model(const std::filesystem::path& folder) {
  return summary_of(load_config(folder));
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

}  // namespace powerprefill
