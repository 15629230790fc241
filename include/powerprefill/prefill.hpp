// Prefill: run a prompt through a model on all ranks and save its KV cache.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "powerprefill/error.hpp"
#include "powerprefill/model.hpp"
#include "powerprefill/run.hpp"
#include "powerprefill/zones.hpp"

namespace powerprefill {

struct PrefillOptions {
  std::vector<std::int32_t> tokens = {};  // (T), the same on every rank
  std::filesystem::path out = {};         // the cache file to make
  bool force = false;                     // replace `out` when it exists
  // Go on after the last commit of `out`, if it exists: the same model, options and prompt (or a
  // longer one) are required, ranks and threads may differ. The final file has the same bits.
  bool resume = false;
  // Another cache file: the tokens that it has in common with the prompt, up to a block's end, are
  // copied from it and not computed. Empty: none.
  std::filesystem::path prefix = {};
  // Tokens that are prefilled and committed together, rounded up to a multiple of the block; what a
  // kill can lose at most. 0: as many as memory allows, at most 131072 (or 8192 a rank).
  std::int64_t chunk_tokens = 0;
  RunOptions run = {};
  std::int64_t reserve = 4096;  // tokens of room for decoding
  bool save_hidden = false;     // also save the last hidden state of every token
  // A picture of the run to make: what each thread of each rank did when, in Chrome's trace
  // format. Empty: none.
  std::filesystem::path trace = {};
  std::function<void(const Progress&)> progress = {};
  // Told on rank 0 what the user should know before the work begins: what the file system of the
  // output cannot do, chunks that are small for lack of memory.
  std::function<void(const std::string&)> note = {};
  // Asked on every rank after each layer. Once it is true on any of them, the chunk in flight is
  // finished if that takes no longer than `stop_patience`, else dropped, and prefill() throws
  // Error(interrupted).
  std::function<bool()> should_stop = {};
  double stop_patience = 30;  // seconds
};

// What one rank did. Seconds are wall-clock, bytes are bytes.
struct RankReport {
  int threads = 0;
  int node = 0;                               // nodes are numbered from 0
  std::array<double, kZones> zone_seconds{};  // by Zone
  std::int64_t tokens = 0;                    // owned by the rank
  std::int64_t bytes_received = 0;            // KV blocks, counted from MPI's statuses
  std::int64_t bytes_planned = 0;             // what the exchange plan says
  std::int64_t peers = 0;                     // ranks that shares come from, over all patterns
  std::int64_t pairs = 0;                     // (query block, key block), all layers
  std::int64_t activation_bytes = 0;          // buffers of this rank, weights not counted
  std::int64_t planned_bytes = 0;             // what was planned for them
  std::int64_t past_bytes_read = 0;           // KV blocks of earlier chunks, from the file
  std::int64_t peak_rss_bytes = 0;            // shared weights counted in every rank
  std::int64_t pss_bytes = 0;                 // at the end; memory shared by ranks counted in parts
  double gemm_flops = 0;                      // of the linear layers, owned tokens only
  double attention_flops = 0;                 // of causal token pairs only
  double cache_write_seconds = 0;
};

struct PrefillReport {
  std::int64_t tokens = 0;
  std::int64_t computed_tokens = 0;  // by this run
  std::int64_t resumed_from = 0;     // tokens that the file had when it was resumed
  std::int64_t reused_tokens = 0;    // copied from another cache file
  std::int64_t chunk_tokens = 0;
  std::int64_t chunks = 0;  // committed by this run
  int ranks = 0;
  int nodes = 0;
  ComputeType compute = ComputeType::f32;  // what was taken
  KvType kv_type = KvType::f32;            // likewise
  std::string numerics;
  double wall_seconds = 0;  // from the first embedding to the final commit, slowest rank
  std::int64_t cache_bytes = 0;
  std::int64_t weights_bytes = 0;  // one copy
  std::string weights_location;
  std::vector<RankReport> per_rank;  // on rank 0; empty elsewhere
};

// Collective. Throws Errors as described in error.hpp; cache when a file to go on with, or to copy
// from, differs in model, schedule, tokens or numerics, naming the field; interrupted after
// should_stop. Whatever happens, `out` either does not exist, or is a cache file that says how much
// of it counts.
PrefillReport prefill(Model& model, const PrefillOptions& options);

}  // namespace powerprefill
