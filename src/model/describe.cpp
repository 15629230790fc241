#include "model/config.hpp"
#include "powerprefill/model.hpp"

namespace powerprefill {

ModelSummary describe_model(const std::filesystem::path& folder) {
  const ModelConfig config = load_config(folder);
  return {.family = config.family,
          .vocabulary = config.vocabulary,
          .layers = config.layers,
          .max_positions = config.max_positions,
          .power_attention = config.power_attention};
}

}  // namespace powerprefill
