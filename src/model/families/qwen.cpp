#include "model/families/dense.hpp"
#include "model/families/family.hpp"

namespace powerprefill {

namespace {

void refuse_used_window(const JsonFields& fields) {
  if (!fields.boolean("use_sliding_window").value_or(false)) return;
  refuse_window(fields, "use_sliding_window",
                "is true (sliding_window is {}): sliding window attention of a checkpoint is not "
                "supported");
}

}  // namespace

// Always with biases on q, k and v: transformers does not read `attention_bias` here.
void read_qwen2(const JsonFields& fields, ModelConfig& config) {
  refuse_used_window(fields);
  refuse_layer_types(fields);
  refuse_activation(fields);
  refuse_mlp_bias(fields);
  read_dense(fields, {.kv_heads = 32, .max_positions = 32768}, config);
  config.qkv_bias = true;
  describe_dense(config);
}

void read_qwen3(const JsonFields& fields, ModelConfig& config) {
  refuse_used_window(fields);
  refuse_layer_types(fields);
  refuse_activation(fields);
  refuse_attention_bias(fields);
  refuse_mlp_bias(fields);
  read_dense(fields, {.kv_heads = 32, .head_dim = 128, .max_positions = 32768}, config);
  config.qk_norm = true;
  describe_dense(config);
}

}  // namespace powerprefill
