// A model ready to run on this rank: config, threads, weights, agreed numerics.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/thread_pool.hpp"
#include "math/compute.hpp"
#include "model/config.hpp"
#include "model/weights.hpp"
#include "mpi/communicator.hpp"
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

// Collective. Throws agreed Errors: input for the model; launch when the ranks would compute
// different bits and options.allow_mixed_numerics is false.
LoadedModel load_model(const mpi::Communicator& world, const ModelOptions& options);

}  // namespace powerprefill
