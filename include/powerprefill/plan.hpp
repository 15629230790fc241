// What a prefill will take, before anything is loaded or allocated.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "powerprefill/model.hpp"
#include "powerprefill/run.hpp"

namespace powerprefill {

struct PlanOptions {
  std::filesystem::path model = {};  // config.json is enough
  std::int64_t tokens = 0;           // of the prompt
  int ranks = 1;
  int nodes = 1;
  int threads = 1;  // per rank
  RunOptions run = {};
  ComputeType compute = ComputeType::automatic;  // automatic: by the CPU here
  std::int64_t reserve = 4096;
  std::int64_t chunk_tokens = 0;  // 0: the default, without a limit by memory
  bool save_hidden = false;
};

// Bytes and operations; of the rank or node that has most where they differ.
struct Plan {
  ComputeType compute = ComputeType::f32;  // what was taken
  KvType kv_type = KvType::f32;            // likewise
  std::int64_t parameters = 0;
  std::int64_t chunk_tokens = 0;
  std::int64_t chunks = 0;
  std::int64_t weights_bytes = 0;  // per node
  std::int64_t cache_bytes = 0;    // of the file; HDF5's own structure not counted
  // Per rank: hidden states and working rows; queries and results; keys and values of two layers;
  // shares of other ranks; blocks read ahead.
  std::int64_t activation_bytes = 0;
  std::int64_t attention_bytes = 0;
  std::int64_t key_value_bytes = 0;
  std::int64_t exchange_bytes = 0;
  std::int64_t past_bytes = 0;
  std::int64_t rank_bytes = 0;      // the sum of these
  std::int64_t node_bytes = 0;      // weights, and rank_bytes of its ranks
  std::int64_t received_bytes = 0;  // by the rank that receives most, all layers
  double linear_flops = 0;          // useful, of all ranks
  double attention_flops = 0;       // of the blocks that are attended, whole
  double balance = 1;               // attention of the busiest rank over the mean; one chunk
};

// Throws Error(usage or input).
Plan plan(const PlanOptions& options);

}  // namespace powerprefill
