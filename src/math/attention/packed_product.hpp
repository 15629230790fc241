// Products with a small matrix that is packed once and used by many rows: the two of attention.
//
// A packed matrix (depth, columns) is cut into panels of some columns, as many as suit the CPU, at
// most kLargestPanel; each panel is (depth, panel) row-major, zero-padded. All calls run on the
// calling thread alone. An element of a product is one chain of multiply-adds (fused where the CPU
// has that) in the order of depth, so that its bits depend on its row and column alone.
#pragma once

#include <cstdint>

#include "math/linear/gemm.hpp"

namespace powerprefill {

// Room for a packed matrix: columns are padded to a multiple of this.
inline constexpr std::int64_t kLargestPanel = 32;

// Packs the transpose of `rows` (columns, depth).
void pack_transposed(MatrixView rows, std::int64_t columns, std::int64_t depth, float* packed);
// Packs `rows` (depth, columns).
void pack_rows(MatrixView rows, std::int64_t depth, std::int64_t columns, float* packed);

// c (rows, columns) = scale a (rows, depth) b, or c += a b.
struct PackedProduct {
  MatrixView a;
  const float* b;
  std::int64_t b_depth;  // of the packed matrix; the first `depth` rows of it are used
  MatrixSpan c;
  std::int64_t rows;
  std::int64_t depth;
  std::int64_t columns;
  float scale = 1.0F;
  bool accumulate = false;  // then without scale
};
void multiply_packed(const PackedProduct& product);

}  // namespace powerprefill
