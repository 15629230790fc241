// Which tensors of a checkpoint make up the weights, by name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace powerprefill {

struct NamedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
};

// A vector or a matrix of the model: the tensors that follow each other in it, along their first
// dimension. Empty: the model has none.
using TensorParts = std::vector<NamedTensor>;

// See LayerWeights for what each is.
struct LayerTensors {
  TensorParts input_norm;
  TensorParts query;
  TensorParts query_bias;
  TensorParts key_value;
  TensorParts key_value_bias;
  TensorParts q_norm;
  TensorParts k_norm;
  TensorParts attention_out;
  TensorParts post_norm;
  TensorParts gate;
  TensorParts up;
  TensorParts down;
};

struct ModelTensors {
  NamedTensor embedding;
  NamedTensor output_head;
  bool tied = false;  // one table serves as both, unless the checkpoint holds two that differ
  TensorParts final_norm;
  std::vector<LayerTensors> layers;  // (N)
  // Tensors of further layers begin so, with their number, and are left aside: they only predict
  // further tokens.
  std::string layer_prefix;
};

}  // namespace powerprefill
