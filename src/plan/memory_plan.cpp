#include "plan/memory_plan.hpp"

#include <algorithm>
#include <numeric>

#include "base/checked.hpp"
#include "math/linear/linear.hpp"
#include "plan/chunks.hpp"

namespace powerprefill {

KvShape kv_shape_of(const ModelConfig& config, const RunOptions& run, Compute compute) {
  const auto dtype = [&] {
    switch (run.kv_type) {
      case KvType::f32:
        return DType::f32;
      case KvType::bf16:
        return DType::bf16;
      case KvType::f16:
        return DType::f16;
      case KvType::automatic:
        break;
    }
    return compute == Compute::f32 ? DType::f32 : DType::bf16;
  };
  return {run.schedule.block, config.kv_heads, config.head_dim, dtype()};
}

double linear_flops(const ModelConfig& config, std::int64_t tokens) {
  const double elements =
      static_cast<double>(config.hidden) *
          static_cast<double>((2 * config.heads + 2 * config.kv_heads) * config.head_dim) +
      3.0 * static_cast<double>(config.hidden) * static_cast<double>(config.feed_forward);
  return 2.0 * elements * static_cast<double>(config.layers) * static_cast<double>(tokens);
}

RankMemory rank_memory(const ModelConfig& config, const KvShape& kv, const ChunkShape& chunk) {
  constexpr std::int64_t f32 = sizeof(float);
  const std::int64_t unit = std::lcm(kv.block, kTileTokens);
  // Shares are cut at units unless there are few of them; two pieces a rank under zigzag.
  const std::int64_t pieces = chunk.ranks * (chunk.zigzag ? 2 : 1);
  const std::int64_t units = ceil_div(chunk.tokens, unit);
  const std::int64_t cut = units < 4 * pieces ? kv.block : unit;
  const std::int64_t owned =
      std::min(round_up(chunk.tokens, kv.block),
               ceil_div(ceil_div(chunk.tokens, cut), pieces) * cut * (chunk.zigzag ? 2 : 1));
  const std::int64_t rows = round_up(owned, kTileTokens);
  const std::int64_t tiles =
      std::min<std::int64_t>(rows / kTileTokens, chunk.threads > 1 ? 2 * chunk.threads : 1);
  const std::int64_t queries = config.heads * config.head_dim;
  const std::int64_t widest = std::max(2 * kv.row_elements(), queries);
  RankMemory memory;
  memory.activations =
      (rows * config.hidden + owned * config.head_dim) * f32 +
      tiles * kTileTokens *
          (widest * f32 + (config.hidden + queries + config.feed_forward) * chunk.operand_bytes);
  if (chunk.saves_hidden) memory.activations += owned * config.hidden * f32;
  memory.attention =
      owned * config.heads * (config.head_dim * (chunk.operand_bytes + f32) + 2 * f32);
  memory.keys_values = 2 * 2 * owned * kv.row_bytes();
  if (chunk.ranks > 1) {
    const std::int64_t shares = std::min<std::int64_t>(pieces - 1, kSharesInFlight);
    memory.exchange = shares * 2 * owned / (chunk.zigzag ? 2 : 1) * kv.row_bytes();
  }
  if (chunk.prompt > chunk.tokens) {
    const std::int64_t blocks = ceil_div(chunk.prompt - chunk.tokens, kv.block);
    memory.past = std::min(kPastBudget, checked_mul(blocks, 2 * kv.block_bytes()));
  }
  return memory;
}

std::int64_t default_chunk(const ModelConfig& config, const KvShape& kv, ChunkShape prompt,
                           std::int64_t budget) {
  const std::int64_t unit = std::lcm(kv.block, kTileTokens);
  prompt.prompt = std::max(prompt.prompt, prompt.tokens);
  const std::int64_t all = round_up(prompt.tokens, unit);
  const std::int64_t largest =
      round_up(std::max(kLargestChunk, kLargestShare * prompt.ranks), unit);
  std::int64_t chunk = std::min(all, largest);
  while (chunk > unit) {
    prompt.tokens = chunk;
    if (rank_memory(config, kv, prompt).total() <= budget) break;
    chunk = round_up(chunk / 2, unit);
  }
  return chunk;
}

}  // namespace powerprefill
