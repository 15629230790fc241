// A model: where it comes from, where its weights go, and the object that prefill, scoring and
// decoding share.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "powerprefill/error.hpp"
#include "powerprefill/session.hpp"
#include "powerprefill/types.hpp"

namespace powerprefill {

// How the weights are placed. There is one copy per node, in the form of the compute type, whatever
// the number of ranks, in memory that the ranks share.
struct WeightsPlacement {
  enum class Store {
    automatic,  // shared memory when the node has enough, else a mapped file
    memory,     // shared memory, or an Error when there is not enough
    file,       // a mapped file in `scratch_folder`, gone when the job ends
  };
  Store store = Store::automatic;
  std::filesystem::path scratch_folder = "/var/tmp";  // local to the node
  bool per_numa = false;  // one copy per NUMA domain instead of per node
};

// A model and the resources of one rank to run it with.
struct ModelOptions {
  // A Hugging Face checkpoint folder: config.json and model.safetensors, or an index and its
  // shards.
  std::filesystem::path folder = {};
  ComputeType compute = ComputeType::automatic;
  // Compute threads of this rank; at least 1.
  int threads = 1;
  WeightsPlacement weights = {};
  // Accept ranks (and later steps) whose CPUs or BLAS kernels differ, so that the result is no
  // longer the same bits everywhere.
  bool allow_mixed_numerics = false;
};

// What the user should know about a checkpoint.
struct ModelNote {
  std::string text;
  std::int64_t beyond = -1;  // it matters to contexts of more than so many tokens; -1: to any

  bool operator==(const ModelNote&) const = default;
};

// Facts about a model that do not need its weights.
struct ModelSummary {
  std::string family;
  std::int64_t vocabulary = 0;
  std::int64_t layers = 0;
  std::int64_t max_positions = 0;
  // The checkpoint's own attention (config.json's `power_attention`) as JSON, or empty: a pattern
  // as spec_from_json() reads it, and beside it `block`, and `full_layers`, a list.
  std::string power_attention;
  std::vector<ModelNote> notes;
};

// Reads config.json, and generation_config.json. Throws Error(input).
ModelSummary describe_model(const std::filesystem::path& folder);

// Throws Error(input) when there is no token, or naming the first whose id is not below
// `vocabulary`.
void require_tokens(std::int64_t vocabulary, std::span<const std::int32_t> tokens);

// A checkpoint on all ranks of a job, loaded once: prefills, scores and decoders share it, one
// after another or several at once.
class Model {
 public:
  // Collective. Reads what is small and agrees on how to compute; the weights are loaded by load(),
  // or by the first call that needs them, when it has checked everything else. `session` outlives
  // this. Throws agreed Errors: input for the checkpoint, also when the ranks have different ones;
  // usage for the options; launch when the ranks would compute different bits and
  // options.allow_mixed_numerics is false.
  Model(Session& session, const ModelOptions& options);
  ~Model();
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;

  // Collective. Loads the weights unless they are there. Throws agreed Errors as above.
  void load();

  const ModelSummary& summary() const;
  // The type that is computed with: f32 or bf16.
  ComputeType compute() const;
  // Token ids that end a text, from the checkpoint; may be empty.
  const std::vector<std::int32_t>& end_tokens() const;
  // Seconds that loading the weights took; 0 before.
  double load_seconds() const;

  // For the library's own use.
  struct State;
  State& state() noexcept { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

}  // namespace powerprefill
