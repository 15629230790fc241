#include "math/attention/packed_product.hpp"

#include <algorithm>

#include "math/rows/simd.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "math/attention/packed_product.cpp"
// The order matters.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace powerprefill {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

const hn::CappedTag<float, kLargestPanel / 2> kFloats;
using Vector = hn::Vec<decltype(kFloats)>;

constexpr std::int64_t kLanes = hn::MaxLanes(decltype(kFloats)());
constexpr std::int64_t kPanel = 2 * kLanes;
// Two sums a row: with 32 registers 24 of them hold sums, with 16 registers 12.
constexpr int kRows = kLanes == 16 ? 12 : 6;

void PackTransposed(MatrixView rows, std::int64_t columns, std::int64_t depth, float* packed) {
  for (std::int64_t panel = 0; panel < columns; panel += kPanel) {
    for (std::int64_t c = 0; c < kPanel; ++c) {
      const float* row = rows.data + (panel + c) * rows.ld;
      for (std::int64_t k = 0; k < depth; ++k) {
        packed[k * kPanel + c] = panel + c < columns ? row[k] : 0.0F;
      }
    }
    packed += depth * kPanel;
  }
}

void PackRows(MatrixView rows, std::int64_t depth, std::int64_t columns, float* packed) {
  for (std::int64_t panel = 0; panel < columns; panel += kPanel) {
    const std::int64_t width = std::min(kPanel, columns - panel);
    for (std::int64_t k = 0; k < depth; ++k) {
      std::copy_n(rows.data + k * rows.ld + panel, width, packed);
      std::fill_n(packed + width, kPanel - width, 0.0F);
      packed += kPanel;
    }
  }
}

// c (kHeight, kPanel) = scale a b, or += a b.
template <int kHeight>
HWY_INLINE void MultiplyRows(const PackedProduct& p, const float* a, const float* b, float* c,
                             std::int64_t c_ld) {
  Vector low[kHeight];
  Vector high[kHeight];
  for (int r = 0; r < kHeight; ++r) {
    low[r] = p.accumulate ? hn::LoadU(kFloats, c + r * c_ld) : hn::Zero(kFloats);
    high[r] = p.accumulate ? hn::LoadU(kFloats, c + r * c_ld + kLanes) : hn::Zero(kFloats);
  }
  for (std::int64_t k = 0; k < p.depth; ++k) {
    const Vector first = hn::LoadU(kFloats, b + k * kPanel);
    const Vector second = hn::LoadU(kFloats, b + k * kPanel + kLanes);
    for (int r = 0; r < kHeight; ++r) {
      const Vector factor = hn::Set(kFloats, a[r * p.a.ld + k]);
      low[r] = hn::MulAdd(factor, first, low[r]);
      high[r] = hn::MulAdd(factor, second, high[r]);
    }
  }
  const Vector scale = hn::Set(kFloats, p.scale);
  for (int r = 0; r < kHeight; ++r) {
    hn::StoreU(p.accumulate ? low[r] : hn::Mul(low[r], scale), kFloats, c + r * c_ld);
    hn::StoreU(p.accumulate ? high[r] : hn::Mul(high[r], scale), kFloats, c + r * c_ld + kLanes);
  }
}

// A panel that has fewer columns than the product may write goes through memory of its own.
template <int kHeight>
void MultiplySomeColumns(const PackedProduct& p, const float* a, const float* b, float* c,
                         std::int64_t width) {
  float whole[kHeight * kPanel] = {};
  for (int r = 0; r < kHeight; ++r) std::copy_n(c + r * p.c.ld, width, whole + r * kPanel);
  MultiplyRows<kHeight>(p, a, b, whole, kPanel);
  for (int r = 0; r < kHeight; ++r) std::copy_n(whole + r * kPanel, width, c + r * p.c.ld);
}

// The rows from `row` on that fill heights of kHeight; returns the first that is left.
template <int kHeight>
HWY_INLINE std::int64_t MultiplyHeights(const PackedProduct& p, const float* b, std::int64_t column,
                                        std::int64_t row) {
  const std::int64_t width = std::min(kPanel, p.columns - column);
  for (; row + kHeight <= p.rows; row += kHeight) {
    const float* a = p.a.data + row * p.a.ld;
    float* c = p.c.data + row * p.c.ld + column;
    if (width == kPanel) {
      MultiplyRows<kHeight>(p, a, b, c, p.c.ld);
    } else {
      MultiplySomeColumns<kHeight>(p, a, b, c, width);
    }
  }
  return row;
}

void Multiply(const PackedProduct& p) {
  const float* b = p.b;
  for (std::int64_t column = 0; column < p.columns; column += kPanel, b += p.b_depth * kPanel) {
    std::int64_t row = MultiplyHeights<kRows>(p, b, column, 0);
    row = MultiplyHeights<4>(p, b, column, row);
    MultiplyHeights<1>(p, b, column, row);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace powerprefill
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace powerprefill {

HWY_EXPORT(PackTransposed);
HWY_EXPORT(PackRows);
HWY_EXPORT(Multiply);

void pack_transposed(MatrixView rows, std::int64_t columns, std::int64_t depth, float* packed) {
  HWY_DYNAMIC_DISPATCH(PackTransposed)(rows, columns, depth, packed);
}
void pack_rows(MatrixView rows, std::int64_t depth, std::int64_t columns, float* packed) {
  HWY_DYNAMIC_DISPATCH(PackRows)(rows, depth, columns, packed);
}
void multiply_packed(const PackedProduct& product) {
  HWY_DYNAMIC_DISPATCH(Multiply)(product);
}

}  // namespace powerprefill
#endif
