#include "math/attention.hpp"

#include <algorithm>
#include <cmath>

#include "base/checked.hpp"
#include "math/row_ops.hpp"

namespace powerprefill {

AttentionScratch::AttentionScratch(const AttentionShape& shape)
    : scores_(std::min(kQueryTile, shape.rows()) * std::min(kKeyTile, shape.block)) {}

void merge_key_block(const AttentionShape& shape, const AttentionState& state, MatrixView key,
                     MatrixView value, std::int64_t keys_present, bool diagonal,
                     AttentionScratch& scratch) {
  const std::int64_t d = shape.head_dim;
  const float scale = 1.0F / std::sqrt(static_cast<float>(d));
  float* scores = scratch.scores();
  // Half of the diagonal block is never seen: smaller tiles skip more of it.
  const std::int64_t query_tile = diagonal ? kQueryTile / 2 : kQueryTile;
  const std::int64_t key_tile = diagonal ? kKeyTile / 2 : kKeyTile;
  for (std::int64_t row = 0; row < shape.rows(); row += query_tile) {
    const std::int64_t rows = std::min(query_tile, shape.rows() - row);
    // The latest token of the tile; a tile that spans two heads holds every token in between.
    const std::int64_t first_token = row % shape.block;
    const std::int64_t last_token = std::min(first_token + rows, shape.block) - 1;
    for (std::int64_t tile = ceil_div(shape.block, key_tile) - 1; tile >= 0; --tile) {
      const std::int64_t first_key = tile * key_tile;
      if (first_key >= keys_present || (diagonal && first_key > last_token)) continue;
      const std::int64_t keys = std::min(key_tile, shape.block - first_key);
      gemm_nt(rows, keys, d, scale, {state.query + row * d, d},
              {key.data + first_key * key.ld, key.ld}, 0.0F, {scores, keys});
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t token = (row + r) % shape.block;
        const std::int64_t visible = diagonal ? std::min(token + 1, keys_present) : keys_present;
        const std::int64_t count = std::min(keys, visible - first_key);
        float* row_scores = scores + r * keys;
        if (count <= 0) {
          std::fill_n(row_scores, keys, 0.0F);
        } else {
          merge_softmax_row(row_scores, count, keys, state.maximum[row + r], state.sum[row + r],
                            state.out + (row + r) * d, d);
          store_operands(shape.compute, row_scores, keys, row_scores);
        }
      }
      gemm_nn(rows, d, keys, {scores, keys}, {value.data + first_key * value.ld, value.ld}, 1.0F,
              {state.out + row * d, d});
    }
  }
}

}  // namespace powerprefill
