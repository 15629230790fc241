// A model ready to run on this rank: config, threads, weights, agreed numerics.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/thread_pool.hpp"
#include "math/compute.hpp"
#include "model/config.hpp"
#include "model/weights/weights.hpp"
#include "mpi/session.hpp"
#include "powerprefill/model.hpp"

namespace powerprefill {

struct LoadedModel {
  ModelConfig config;
  std::string config_fingerprint;
  std::string tokenizer_fingerprint;  // of the tokenizer's file; empty when there is none
  Compute compute = Compute::f32;
  std::string numerics;
  int nodes = 1;
  int node = 0;        // this rank's
  int node_ranks = 1;  // on the fullest node
  std::unique_ptr<ThreadPool> pool;
  Weights weights;

  // Bytes for a rank when its node's ranks share this part of the memory that is available now.
  std::int64_t share_of_memory(double part) const;
};

// Collective. All but the weights: quick, so that what does not fit the model is found before they
// are loaded. Throws agreed Errors: input for the model, also when the ranks have different ones;
// launch when they would compute different bits and options.allow_mixed_numerics is false.
LoadedModel prepare_model(mpi::Session& session, const ModelOptions& options);

// Collective. The weights of a prepared model. Throws agreed Errors as above.
void load_weights(mpi::Session& session, const ModelOptions& options, LoadedModel& model);

// Collective. Both.
LoadedModel load_model(mpi::Session& session, const ModelOptions& options);

}  // namespace powerprefill
