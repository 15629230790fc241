#include "model/families/dense.hpp"
#include "model/families/family.hpp"

namespace powerprefill {

// Without biases, whatever `attention_bias` says: transformers does not read it here.
void read_mistral(const JsonFields& fields, ModelConfig& config) {
  refuse_window(
      fields, "sliding_window",
      "is {}: sliding window attention of a checkpoint is not supported; use a checkpoint "
      "with \"sliding_window\": null");
  refuse_layer_types(fields);
  refuse_activation(fields);
  refuse_mlp_bias(fields);
  read_dense(fields, {.kv_heads = 8, .max_positions = 131072}, config);
  describe_dense(config);
}

}  // namespace powerprefill
