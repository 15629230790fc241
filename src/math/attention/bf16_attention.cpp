#include "math/attention/bf16_attention.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "base/checked.hpp"
#include "math/attention/bf16_tiles.hpp"
#include "math/rows/convert.hpp"

namespace powerprefill {

Bf16Scratch::Bf16Scratch(const AttentionShape& shape) {
  const std::int64_t keys = std::min(kBf16KeyTile, round_up(shape.block, kBf16Rows));
  const std::int64_t columns = round_up(shape.head_dim, kBf16Columns);
  key = AlignedBuffer<std::uint16_t>(keys * columns);
  value = AlignedBuffer<std::uint16_t>(keys * columns);
  scores = AlignedBuffer<float>(kBf16Rows * keys);
  probabilities = AlignedBuffer<std::uint16_t>(kBf16Rows * keys);
}

namespace {

// `count` elements of a row as bf16. @pre count <= kLargestHead
void load_row(DType dtype, const std::byte* from, std::int64_t count, std::uint16_t* to) {
  if (dtype == DType::bf16) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * 2);
    return;
  }
  float wide[kLargestHead];
  const std::span<float> row(wide, static_cast<std::size_t>(count));
  widen(dtype, from, row);
  round_to(DType::bf16, row, reinterpret_cast<std::byte*>(to));
}

// Neighbours in the reduced dimension lie side by side: (D/2, keys, 2) and (keys/2, D, 2). Keys
// beyond the present ones, and columns beyond D, are zero.
void pack(const KeyValueRows& rows, std::int64_t first, std::int64_t present, std::int64_t keys,
          std::int64_t head_dim, Bf16Scratch& scratch) {
  const std::int64_t columns = round_up(head_dim, kBf16Columns);
  alignas(64) std::uint16_t row[2][kLargestHead] = {};
  std::uint32_t* packed_keys = reinterpret_cast<std::uint32_t*>(scratch.key.data());
  std::uint16_t* packed_values = scratch.value.data();
  for (std::int64_t k = 0; k < keys; ++k) {
    std::memset(row[0], 0, static_cast<std::size_t>(columns) * 2);
    if (k < present) {
      load_row(rows.key.dtype, rows.key.data + (first + k) * rows.key.stride, head_dim, row[0]);
    }
    const auto* pairs = reinterpret_cast<const std::uint32_t*>(row[0]);
    for (std::int64_t d = 0; d < columns / 2; ++d) packed_keys[d * keys + k] = pairs[d];
  }
  for (std::int64_t k = 0; k < keys; k += 2) {
    for (const int half : {0, 1}) {
      std::memset(row[half], 0, static_cast<std::size_t>(columns) * 2);
      if (k + half < present) {
        load_row(rows.value.dtype, rows.value.data + (first + k + half) * rows.value.stride,
                 head_dim, row[half]);
      }
    }
    std::uint16_t* to = packed_values + k * columns;
    for (std::int64_t d = 0; d < columns; ++d) {
      to[2 * d] = row[0][d];
      to[2 * d + 1] = row[1][d];
    }
  }
}

}  // namespace

void merge_key_block_bf16(Bf16Isa isa, const AttentionShape& shape, const Bf16State& state,
                          const KeyValueRows& rows, bool diagonal, Bf16Scratch& scratch) {
  const std::int64_t columns = round_up(shape.head_dim, kBf16Columns);
  const std::int64_t keys_present = rows.key.rows;
  const Bf16Kernels& kernels = bf16_kernels(isa);
  kernels.begin();
  for (std::int64_t tile = ceil_div(shape.block, kBf16KeyTile) - 1; tile >= 0; --tile) {
    const std::int64_t first_key = tile * kBf16KeyTile;
    if (first_key >= keys_present) continue;
    const std::int64_t keys = std::min(kBf16KeyTile, round_up(shape.block - first_key, kBf16Rows));
    const std::int64_t present = std::min(keys, keys_present - first_key);
    pack(rows, first_key, present, keys, shape.head_dim, scratch);
    for (std::int64_t row = 0; row < shape.rows(); row += kBf16Rows) {
      // Keys that each row sees in this tile.
      std::int32_t visible[kBf16Rows] = {};
      std::int64_t most = 0;
      for (std::int64_t r = 0; r < std::min(kBf16Rows, shape.rows() - row); ++r) {
        const std::int64_t token = (row + r) % shape.block;
        const std::int64_t seen = diagonal ? token + 1 - first_key : present;
        visible[r] = static_cast<std::int32_t>(std::clamp<std::int64_t>(seen, 0, present));
        most = std::max<std::int64_t>(most, visible[r]);
      }
      if (most == 0) continue;
      const Bf16Tile step = {.query = state.query + row * columns,
                             .key = scratch.key.data(),
                             .value = scratch.value.data(),
                             .scores = scratch.scores.data(),
                             .probabilities = scratch.probabilities.data(),
                             .maximum = state.maximum + row,
                             .sum = state.sum + row,
                             .out = state.out + row * columns,
                             .visible = visible,
                             .keys = keys,
                             .used_keys = round_up(most, kBf16Rows),
                             .columns = columns,
                             .scale = shape.scale};
      kernels.scores(step);
      kernels.softmax(step);
      kernels.values(step);
    }
  }
  kernels.end();
}

}  // namespace powerprefill
