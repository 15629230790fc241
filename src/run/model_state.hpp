// What a Model holds: config, threads, weights, agreed numerics.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/thread_pool.hpp"
#include "kv/past_blocks.hpp"
#include "math/linear/compute.hpp"
#include "model/config.hpp"
#include "model/weights/weights.hpp"
#include "mpi/session.hpp"
#include "powerprefill/model.hpp"

namespace powerprefill {

struct Model::State {
  mpi::Session& session;
  ModelOptions options;
  ModelConfig config = {};
  ModelSummary summary = {};
  std::string config_fingerprint = {};
  std::string tokenizer_fingerprint = {};  // of the tokenizer's file; empty when there is none
  Compute compute = Compute::f32;
  std::string numerics = {};
  int node_ranks = 1;  // on the fullest node
  std::unique_ptr<ThreadPool> pool = {};
  Weights weights = {};
  std::shared_ptr<BlockBudget> blocks = {};  // of all decoders
  bool has_weights = false;
  double load_seconds = 0;

  mpi::Communicator& world() const { return session.world(); }

  // Collective. All but the weights: quick, so that what does not fit the model is found before
  // they are loaded.
  void prepare();
  // Collective. The weights, unless they are there.
  void load();
  // Bytes for a rank when its node's ranks share this part of the memory that is available now.
  std::int64_t share_of_memory(double part) const;
};

}  // namespace powerprefill
