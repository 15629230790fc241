// Linear layers over many tokens: tasks over (token tile, output panel).
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "base/thread_pool.hpp"
#include "math/gemm.hpp"

namespace powerprefill {

// Rows of every GEMM. Tiles lie at fixed positions of the prompt: tile t holds the tokens
// [t kTileTokens, (t + 1) kTileTokens), whichever rank has them.
inline constexpr std::int64_t kTileTokens = 256;

// Outputs of every GEMM but the last of a layer, which has the rest.
inline constexpr std::int64_t kPanelOutputs = 1024;

struct Linear {
  std::span<const float> weight;  // (outputs, inputs)
  std::span<const float> bias;    // (outputs), or empty
  std::int64_t inputs;
  std::int64_t outputs;
};

// y = x W^T + bias, or y += x W^T + bias, for `tiles` tiles of kTileTokens rows each.
// `between` is called on the calling thread between tasks.
void apply_linear(ThreadPool& pool, const Linear& linear, std::int64_t tiles, MatrixView x,
                  MatrixSpan y, bool accumulate, const std::function<void()>& between = {});

// y (outputs) = W x + bias for a single row, for outputs [begin, end) only. The result of an output
// does not depend on the range. Used by decoding and for the logits.
void apply_linear_row(ThreadPool& pool, const Linear& linear, const float* x, std::int64_t begin,
                      std::int64_t end, float* y);

}  // namespace powerprefill
