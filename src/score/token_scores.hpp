// Log-probabilities of a chunk's tokens from its final hidden states.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "layers/chunk.hpp"
#include "powerprefill/score.hpp"

namespace powerprefill {

// What this rank's tokens say about the token after each of them, in their order: one score per
// owned token but the prompt's last. `tokens` is the whole prompt, (T). The logits of a few GEMM
// tiles and kLogitSlice outputs are held at a time. Throws Error(input) when one is not finite.
inline constexpr std::int64_t kLogitSlice = 2048;
std::vector<TokenScore> score_next_tokens(const Weights& weights, ThreadPool& pool,
                                          const Chunk& chunk, std::span<const std::int32_t> tokens);

}  // namespace powerprefill
