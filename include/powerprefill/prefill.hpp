// Prefill: run a prompt through a model on all ranks and save its KV cache.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "powerprefill/error.hpp"
#include "powerprefill/model.hpp"
#include "powerprefill/pattern.hpp"
#include "powerprefill/session.hpp"

namespace powerprefill {

// What progress callbacks are told, on every rank.
struct Progress {
  std::int64_t layer = 0;   // layers done
  std::int64_t layers = 0;  // of so many
  double seconds = 0;       // since the first embedding
};

struct PrefillOptions {
  ModelOptions model;
  std::vector<std::int32_t> tokens;  // (T), the same on every rank
  std::filesystem::path out;         // the cache file to make
  bool force = false;                // replace `out` when it exists
  Schedule schedule;                 // the pattern of every layer
  // auto, contiguous or zigzag: which rank owns which blocks. Results do not depend on it. auto
  // takes zigzag, which balances full attention, when the schedule has a full layer.
  std::string partition = "auto";
  std::string kv_dtype = "f32";  // f32, bf16 or f16: of keys and values, also while attending
  std::int64_t reserve = 4096;   // tokens of room for decoding
  bool save_hidden = false;      // also save the last hidden state of every token
  std::function<void(const Progress&)> progress;
};

// What one rank did. Seconds are wall-clock, bytes are bytes.
struct RankReport {
  int threads = 0;
  int node = 0;                                // nodes are numbered from 0
  std::map<std::string, double> zone_seconds;  // by name of the zone
  std::int64_t tokens = 0;                     // owned by the rank
  std::int64_t bytes_received = 0;             // KV blocks, counted from MPI's statuses
  std::int64_t bytes_planned = 0;              // what the exchange plan says
  std::int64_t peers = 0;                      // ranks that shares come from, over all patterns
  std::int64_t pairs = 0;                      // (query block, key block), all layers
  std::int64_t activation_bytes = 0;           // buffers of this rank, weights not counted
  std::int64_t peak_rss_bytes = 0;             // shared weights counted in every rank
  std::int64_t pss_bytes = 0;  // at the end; memory shared by ranks counted in parts
  double gemm_flops = 0;       // of the linear layers, owned tokens only
  double attention_flops = 0;  // of causal token pairs only
  double cache_write_seconds = 0;
};

struct PrefillReport {
  std::int64_t tokens = 0;
  int ranks = 0;
  int nodes = 0;
  std::string numerics;
  double wall_seconds = 0;  // from the first embedding to the final commit, slowest rank
  std::int64_t cache_bytes = 0;
  std::int64_t weights_bytes = 0;  // one copy
  std::string weights_location;
  std::vector<RankReport> per_rank;  // on rank 0; empty elsewhere
};

// Collective over all ranks of the session. Throws Errors as described in error.hpp; whatever
// happens, `out` either does not exist, or is a cache file that says how much of it counts.
PrefillReport prefill(Session& session, const PrefillOptions& options);

}  // namespace powerprefill
