// Which tensors of a checkpoint a model takes, and where their values go in the shared memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "math/linear/weight_form.hpp"
#include "model/config.hpp"
#include "model/sources/tensor_source.hpp"

namespace powerprefill {

// A tensor of the checkpoint, and where it goes.
struct PlacedTensor {
  NamedTensor named;
  SourceTensor stored;
  const WeightForm* form = nullptr;
  std::int64_t offset = 0;  // bytes into the shared memory; not of a packed one
};

// A vector or a matrix of the result, made of tensors that follow each other.
struct PlacedWeights {
  const WeightForm* form = nullptr;
  MatrixShape shape{};      // of a vector: (its length, 1)
  std::size_t first = 0;    // of its tensors
  std::int64_t offset = 0;  // bytes into the shared memory
  std::int64_t bytes = 0;
  bool is_packed() const { return form->panel_outputs() > 0; }
};

struct WeightLayout {
  std::vector<PlacedTensor> tensors;
  std::vector<PlacedWeights> weights;
  std::int64_t bytes = 0;

  // Places `parts` behind what is there. Throws Error(input) as TensorSource::find() does: no size
  // is used before the checkpoint proved to hold as many bytes.
  void add(TensorSource& source, const TensorParts& parts, const WeightForm& form);
};

// The layer in "model.layers.12.mlp...", where `prefix` is "model.layers."; or -1.
std::int64_t layer_of(std::string_view name, std::string_view prefix);

// A model with a tensor that is not used would compute something else, but for buffers, and layers
// beyond the last. Throws Error(input) naming the first.
void refuse_ignored_tensors(const TensorSource& source, const WeightLayout& layout,
                            const ModelConfig& config);

}  // namespace powerprefill
