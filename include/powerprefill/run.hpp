// What runs over a prompt have in common: prefill, score and plan.
#pragma once

#include <cstdint>

#include "powerprefill/pattern.hpp"
#include "powerprefill/types.hpp"

namespace powerprefill {

// How a prompt is attended to, kept and split.
struct RunOptions {
  Schedule schedule = {};  // the pattern of every layer
  KvType kv_type = KvType::automatic;
  BlockPartition partition = BlockPartition::automatic;
};

// What progress callbacks are told, on every rank.
struct Progress {
  std::int64_t layer = 0;      // layers done of the chunk in flight
  std::int64_t layers = 0;     // of so many
  std::int64_t committed = 0;  // tokens that are safe in the file
  std::int64_t chunk_end = 0;  // tokens that will be, after this chunk
  std::int64_t tokens = 0;     // of the prompt
  double seconds = 0;          // since the first embedding
  double seconds_left = 0;     // estimated from the layers so far
};

}  // namespace powerprefill
