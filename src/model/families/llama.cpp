#include "model/families/dense.hpp"
#include "model/families/family.hpp"

namespace powerprefill {

void read_llama(const JsonFields& fields, ModelConfig& config) {
  refuse_layer_types(fields);
  refuse_activation(fields);
  refuse_attention_bias(fields);
  refuse_mlp_bias(fields);
  read_dense(fields, {.max_positions = 2048}, config);
  describe_dense(config);
}

}  // namespace powerprefill
