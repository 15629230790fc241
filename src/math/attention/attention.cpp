#include "math/attention/attention.hpp"

#include <algorithm>
#include <cmath>

#include "base/checked.hpp"
#include "math/attention/packed_product.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

namespace {

// Keys of a tile, with room for whole panels.
std::int64_t padded_keys(const AttentionShape& shape) {
  return round_up(std::min(kKeyTile, shape.block), kLargestPanel);
}

}  // namespace

AttentionScratch::AttentionScratch(const AttentionShape& shape)
    : scores(std::min(kQueryTile, shape.rows()) * padded_keys(shape)),
      key(padded_keys(shape) * shape.head_dim),
      value(padded_keys(shape) * round_up(shape.head_dim, kLargestPanel)) {}

void merge_key_block(const AttentionShape& shape, const AttentionState& state, MatrixView key,
                     MatrixView value, std::int64_t keys_present, bool diagonal,
                     AttentionScratch& scratch) {
  const std::int64_t d = shape.head_dim;
  const std::int64_t score_ld = padded_keys(shape);
  for (std::int64_t tile = ceil_div(keys_present, kKeyTile) - 1; tile >= 0; --tile) {
    const std::int64_t first_key = tile * kKeyTile;
    const std::int64_t keys = std::min(kKeyTile, keys_present - first_key);
    pack_transposed({key.data + first_key * key.ld, key.ld}, keys, d, scratch.key.data());
    pack_rows({value.data + first_key * value.ld, value.ld}, keys, d, scratch.value.data());
    for (std::int64_t row = 0; row < shape.rows(); row += kQueryTile) {
      const std::int64_t rows = std::min(kQueryTile, shape.rows() - row);
      // The latest token of the tile; one that spans two heads holds all in between.
      const std::int64_t last_token = std::min(row % shape.block + rows, shape.block) - 1;
      const std::int64_t used = diagonal ? std::min(keys, last_token + 1 - first_key) : keys;
      if (used <= 0) continue;
      multiply_packed({.a = {state.query + row * d, d},
                       .b = scratch.key.data(),
                       .b_depth = d,
                       .c = {scratch.scores.data(), score_ld},
                       .rows = rows,
                       .depth = d,
                       .columns = used,
                       .scale = shape.scale});
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t token = (row + r) % shape.block;
        const std::int64_t count = diagonal ? std::min(used, token + 1 - first_key) : used;
        float* scores = scratch.scores.data() + r * score_ld;
        if (count <= 0) {
          std::fill_n(scores, used, 0.0F);
        } else {
          merge_softmax_row(scores, count, used, state.maximum[row + r], state.sum[row + r],
                            state.out + (row + r) * d, d);
          store_operands(shape.compute, scores, used, scores);
        }
      }
      multiply_packed({.a = {scratch.scores.data(), score_ld},
                       .b = scratch.value.data(),
                       .b_depth = keys,
                       .c = {state.out + row * d, d},
                       .rows = rows,
                       .depth = used,
                       .columns = d,
                       .accumulate = true});
    }
  }
}

}  // namespace powerprefill
