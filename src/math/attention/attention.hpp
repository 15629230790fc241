// Block attention with an online softmax: one group of query heads, one block of queries, one block
// of keys at a time.
//
// The queries of the H/G heads that share a key/value head are stacked: row h B + t of the stack is
// head h of the group, token t of the block. Key blocks are merged in descending order; within a
// block larger than kKeyTile, key tiles descend too. A tile of keys and values is packed once and
// used by all rows of the stack, kQueryTile at a time, so that scores stay in the first cache. The
// bits of a row depend on what it sees alone (see packed_product.hpp). Source: FlashAttention's
// recurrence (arXiv 2205.14135), Algorithm 1.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/aligned_buffer.hpp"
#include "math/linear/compute.hpp"
#include "math/linear/gemm.hpp"

namespace powerprefill {

inline constexpr std::int64_t kQueryTile = 48;      // rows of the stack in one product
inline constexpr std::int64_t kKeyTile = 256;       // keys in one product
inline constexpr std::int64_t kLargestHead = 1024;  // D at most

struct AttentionShape {
  std::int64_t group_heads;  // H / G
  std::int64_t block;        // B
  std::int64_t head_dim;     // D
  Compute compute = Compute::f32;
  float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));  // of scores
  std::int64_t rows() const { return group_heads * block; }
};

// The softmax state of one stack of queries. Before the first merge: maximum -inf, sum 0, out 0.
struct AttentionState {
  const float* query;  // (H/G B, D), after RoPE, as operands
  float* maximum;      // (H/G B)
  float* sum;          // (H/G B)
  float* out;          // (H/G B, D), not yet divided by sum
};

// Thread-local working memory of merge_key_block().
class AttentionScratch {
 public:
  explicit AttentionScratch(const AttentionShape& shape);
  std::int64_t bytes() const {
    return static_cast<std::int64_t>(scores.bytes() + key.bytes() + value.bytes());
  }

  AlignedBuffer<float> scores;  // (kQueryTile, keys of a tile)
  AlignedBuffer<float> key;     // (D, keys of a tile), packed
  AlignedBuffer<float> value;   // (keys of a tile, D), packed
};

// Merges one key block into the state, with f32 products; bf16 that is emulated rounds the
// probabilities. `key` and `value` are (B, D) with a row distance of their own; rows from
// `keys_present` on are padding: they must be readable and finite, and are not attended.
// `diagonal`: keys and queries are the same block, so query t sees keys 0..t only; otherwise it
// sees all that are present.
void merge_key_block(const AttentionShape& shape, const AttentionState& state, MatrixView key,
                     MatrixView value, std::int64_t keys_present, bool diagonal,
                     AttentionScratch& scratch);

}  // namespace powerprefill
