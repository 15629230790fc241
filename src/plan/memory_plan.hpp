// How much memory a rank takes for a chunk, and what a model computes, before anything is
// allocated. Pure.
#pragma once

#include <cstdint>

#include "cache/format/kv_shape.hpp"
#include "math/linear/compute.hpp"
#include "model/config.hpp"
#include "powerprefill/run.hpp"

namespace powerprefill {

// Keys and values as a run keeps them.
KvShape kv_shape_of(const ModelConfig& config, const RunOptions& run, Compute compute);

struct ChunkShape {
  std::int64_t tokens = 0;  // of the chunk
  std::int64_t prompt = 0;  // tokens of the prompt; beyond `tokens` they are read from the file
  int ranks = 1;
  int threads = 1;
  bool zigzag = false;
  bool saves_hidden = false;
  std::int64_t operand_bytes = 4;  // of the compute type, see math/linear/compute.hpp
};

// Bytes of the largest rank, by purpose. Shared weights are not part of it.
struct RankMemory {
  std::int64_t activations = 0;  // hidden states, rotary tables, working rows of the linear layers
  std::int64_t attention = 0;    // queries, results and softmax statistics
  std::int64_t keys_values = 0;  // of the layer that is computed and the one that is written
  std::int64_t exchange =
      0;                  // shares of other ranks: an upper bound, at most four of a rank's size
  std::int64_t past = 0;  // blocks read ahead
  std::int64_t total() const { return activations + attention + keys_values + exchange + past; }
};

// Useful operations of the linear layers for so many tokens.
double linear_flops(const ModelConfig& config, std::int64_t tokens);

RankMemory rank_memory(const ModelConfig& config, const KvShape& kv, const ChunkShape& chunk);

// The largest chunk (a multiple of block and GEMM tile, at most `tokens` rounded up) that takes at
// most `budget` bytes a rank; one such multiple when none does. Chunks are also commits, so that
// they end at kLargestChunk tokens, or kLargestShare a rank: beyond that they gain nothing.
inline constexpr std::int64_t kLargestChunk = 131072;
inline constexpr std::int64_t kLargestShare = 8192;
std::int64_t default_chunk(const ModelConfig& config, const KvShape& kv, ChunkShape prompt,
                           std::int64_t budget);

}  // namespace powerprefill
