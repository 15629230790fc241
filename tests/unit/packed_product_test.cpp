#include "math/attention/packed_product.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include "base/checked.hpp"
#include "support/random_values.hpp"

namespace powerprefill {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// a (rows, depth), b (depth, columns), and c (rows, columns), all with longer rows in memory.
class PackedProductTest : public testing::TestWithParam<std::tuple<int, int, int>> {
 protected:
  PackedProductTest()
      : rows(std::get<0>(GetParam())),
        depth(std::get<1>(GetParam())),
        columns(std::get<2>(GetParam())),
        a(random_values(rows * a_ld(), 1)),
        b(random_values(depth * b_ld(), 2)),
        packed(static_cast<std::size_t>(depth * round_up(columns, kLargestPanel)), kNan),
        c(random_values(rows * c_ld(), 3)) {}

  std::int64_t a_ld() const { return depth + 3; }
  std::int64_t b_ld() const { return columns + 5; }
  std::int64_t c_ld() const { return columns + 1; }
  PackedProduct product(std::vector<float>& result) const {
    return {.a = {a.data(), a_ld()},
            .b = packed.data(),
            .b_depth = depth,
            .c = {result.data(), c_ld()},
            .rows = rows,
            .depth = depth,
            .columns = columns};
  }
  // Of the first `some` of the depth.
  double exact(std::int64_t r, std::int64_t column, std::int64_t some) const {
    double sum = 0;
    for (std::int64_t k = 0; k < some; ++k) {
      sum += static_cast<double>(a[static_cast<std::size_t>(r * a_ld() + k)]) *
             static_cast<double>(b[static_cast<std::size_t>(k * b_ld() + column)]);
    }
    return sum;
  }
  void expect_close(const std::vector<float>& result, float scale, bool accumulated,
                    std::int64_t some) const {
    const double bound = 1e-6 * (static_cast<double>(some) + 2);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 0; i < c_ld(); ++i) {
        const auto at = static_cast<std::size_t>(r * c_ld() + i);
        if (i >= columns) {
          ASSERT_EQ(result[at], c[at]) << "beyond the columns";
          continue;
        }
        const double before = accumulated ? static_cast<double>(c[at]) : 0;
        ASSERT_NEAR(static_cast<double>(result[at]),
                    static_cast<double>(scale) * exact(r, i, some) + before, bound);
      }
    }
  }

  std::int64_t rows;
  std::int64_t depth;
  std::int64_t columns;
  std::vector<float> a;
  std::vector<float> b;
  std::vector<float> packed;
  std::vector<float> c;
};

TEST_P(PackedProductTest, IsTheProduct) {
  pack_rows({b.data(), b_ld()}, depth, columns, packed.data());
  std::vector<float> result = c;
  PackedProduct p = product(result);
  p.scale = 0.125F;
  multiply_packed(p);
  expect_close(result, 0.125F, false, depth);
  result = c;
  p.accumulate = true;
  p.depth = (depth + 1) / 2;  // of a packed matrix that has more
  multiply_packed(p);
  expect_close(result, 1.0F, true, p.depth);
}

TEST_P(PackedProductTest, PacksATranspose) {
  std::vector<float> transposed(static_cast<std::size_t>(columns * (depth + 2)));
  for (std::int64_t k = 0; k < depth; ++k) {
    for (std::int64_t i = 0; i < columns; ++i) {
      transposed[static_cast<std::size_t>(i * (depth + 2) + k)] =
          b[static_cast<std::size_t>(k * b_ld() + i)];
    }
  }
  pack_transposed({transposed.data(), depth + 2}, columns, depth, packed.data());
  std::vector<float> other(packed.size(), kNan);
  pack_rows({b.data(), b_ld()}, depth, columns, other.data());
  for (std::size_t i = 0; i < packed.size(); ++i) {
    ASSERT_TRUE(packed[i] == other[i] || (std::isnan(packed[i]) && std::isnan(other[i]))) << i;
  }
}

// The bits of a row do not depend on the rows beside it.
TEST_P(PackedProductTest, RowsStandAlone) {
  pack_rows({b.data(), b_ld()}, depth, columns, packed.data());
  std::vector<float> whole = c;
  PackedProduct p = product(whole);
  p.accumulate = true;
  multiply_packed(p);
  std::vector<float> single = c;
  for (std::int64_t r = 0; r < rows; ++r) {
    PackedProduct one = p;
    one.a.data += r * a_ld();
    one.c.data = single.data() + r * c_ld();
    one.rows = 1;
    multiply_packed(one);
  }
  EXPECT_EQ(single, whole);
}

INSTANTIATE_TEST_SUITE_P(Shapes, PackedProductTest,
                         testing::Combine(testing::Values(1, 13, 48), testing::Values(1, 64, 131),
                                          testing::Values(16, 31, 100)),
                         [](const auto& shape_info) {
                           return std::to_string(std::get<0>(shape_info.param)) + "x" +
                                  std::to_string(std::get<1>(shape_info.param)) + "x" +
                                  std::to_string(std::get<2>(shape_info.param));
                         });

}  // namespace
}  // namespace powerprefill
