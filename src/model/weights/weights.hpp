// The compute-ready weights of a checkpoint: one copy per node, shared by its ranks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.hpp"
#include "math/linear/linear.hpp"
#include "model/config.hpp"
#include "mpi/communicator.hpp"
#include "mpi/shared_memory.hpp"

namespace powerprefill {

// Weights of one layer, as views. Matrices are (outputs, inputs), in the form that the products of
// the compute type take; all else is f32.
struct LayerWeights {
  std::span<const float> input_norm;      // (E)
  WeightMatrix query;                     // (H D, E)
  std::span<const float> query_bias;      // (H D), or empty
  WeightMatrix key_value;                 // (2 G D, E): all of K, then V
  std::span<const float> key_value_bias;  // (2 G D), or empty
  std::span<const float> q_norm;          // (D), or empty
  std::span<const float> k_norm;          // (D), or empty
  WeightMatrix attention_out;             // (E, H D)
  std::span<const float> post_norm;       // (E)
  WeightMatrix gate;                      // (F, E)
  WeightMatrix up;                        // (F, E)
  WeightMatrix down;                      // (E, F)
};

// Owns the memory of all views.
class Weights {
 public:
  struct Placement {
    mpi::SharedStore store = mpi::SharedStore::automatic;
    std::filesystem::path scratch_folder;  // for a mapped file
  };

  // Collective over `node`, whose ranks and threads share the work of conversion. Throws an agreed
  // Error(input) naming the file and the tensor when the checkpoint is damaged or does not fit
  // `config.tensors`: missing, misshapen, overlapping or out-of-range tensors, dtypes other than
  // bf16, f16 and f32, values that are not finite, an index that names missing files.
  static Weights load(const std::filesystem::path& folder, const ModelConfig& config,
                      Compute compute, const mpi::Communicator& node, ThreadPool& pool,
                      const Placement& placement);

  // The hidden state that a token begins with, (E).
  std::span<const float> embedding_of(std::int64_t token) const {
    return embedding_.subspan(static_cast<std::size_t>(token * hidden_),
                              static_cast<std::size_t>(hidden_));
  }
  std::span<const float> final_norm() const { return final_norm_; }  // (E)
  // From the final hidden state to the logits, (V, E).
  Linear output_head() const { return {output_head_, {}, hidden_, vocabulary_}; }
  const LayerWeights& layer(std::int64_t index) const {
    return layers_[static_cast<std::size_t>(index)];
  }

  // Hash of the checkpoint's tensors (name, dtype, shape, bytes; sorted by name), in hexadecimal.
  // It does not depend on how the checkpoint is cut into files. Every rank has the same text.
  const std::string& fingerprint() const { return fingerprint_; }
  // Bytes of the shared copy.
  std::int64_t bytes() const { return static_cast<std::int64_t>(memory_.bytes().size()); }
  // "memory", or "file in FOLDER".
  const std::string& location() const { return memory_.location(); }

 private:
  template <typename Visit>
  void for_each(const ModelTensors& tensors, const TensorParts& embedding,
                const TensorParts& output_head, const Visit& visit);

  std::int64_t hidden_ = 0;
  std::int64_t vocabulary_ = 0;
  mpi::SharedMemory memory_;
  std::span<const float> embedding_;    // (V, E)
  std::span<const float> final_norm_;   // (E)
  std::span<const float> output_head_;  // (V, E)
  std::vector<LayerWeights> layers_;
  std::string fingerprint_;
};

}  // namespace powerprefill
