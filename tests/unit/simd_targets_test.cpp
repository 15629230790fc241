// The kernels of every instruction set that this CPU has, down to plain code, compute the same.
#include "support/simd_targets.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "math/attention/attention.hpp"
#include "math/attention/row_attention.hpp"
#include "math/rows/convert.hpp"
#include "math/rows/row_ops.hpp"
#include "support/random_values.hpp"

namespace powerprefill {
namespace {

// Results of two merges, the diagonal first, divided by their sums.
std::vector<float> attend(const AttentionShape& shape) {
  const auto rows = static_cast<std::size_t>(shape.rows());
  const std::int64_t d = shape.head_dim;
  const std::vector<float> query = random_values(shape.rows() * d, 1);
  std::vector<float> maximum(rows, -std::numeric_limits<float>::infinity());
  std::vector<float> sum(rows, 0.0F);
  std::vector<float> out(query.size(), 0.0F);
  AttentionScratch scratch(shape);
  for (const bool diagonal : {true, false}) {
    const std::vector<float> key = random_values(shape.block * d, diagonal ? 2 : 3);
    const std::vector<float> value = random_values(shape.block * d, diagonal ? 4 : 5);
    merge_key_block(shape, {query.data(), maximum.data(), sum.data(), out.data()}, {key.data(), d},
                    {value.data(), d}, shape.block, diagonal, scratch);
  }
  for (std::size_t i = 0; i < out.size(); ++i) out[i] /= sum[i / static_cast<std::size_t>(d)];
  return out;
}

// The same of one token, over f16 rows.
std::vector<float> attend_rows() {
  constexpr std::int64_t heads = 5;
  constexpr std::int64_t rows = 21;
  constexpr std::int64_t d = 44;
  std::vector<std::byte> kv[2];
  for (const int part : {0, 1}) {
    const std::vector<float> random = random_values(rows * d, 6 + static_cast<unsigned>(part));
    kv[part].resize(static_cast<std::size_t>(rows * d * 2));
    EXPECT_TRUE(round_to(DType::f16, random, kv[part].data()));
  }
  const std::vector<float> query = random_values(heads * d, 8);
  std::vector<float> scores(static_cast<std::size_t>(heads * rows));
  std::vector<float> out(static_cast<std::size_t>(heads * d), 0.0F);
  score_rows({DType::f16, kv[0].data(), d * 2, rows}, query.data(), heads, d, 0.1F, scores.data(),
             rows);
  add_weighted_rows({DType::f16, kv[1].data(), d * 2, rows}, scores.data(), rows, heads, d,
                    out.data());
  return out;
}

TEST(SimdTargets, AttentionAgrees) {
  const std::vector<AttentionShape> shapes = {{3, 40, 20}, {2, 300, 64}, {1, 16, 128}};
  std::vector<std::vector<float>> best;
  for (const AttentionShape& shape : shapes) best.push_back(attend(shape));
  const std::vector<float> best_rows = attend_rows();
  const auto seen = for_each_simd_target([&](const std::string& target) {
    const std::vector<float> found_rows = attend_rows();
    for (std::size_t i = 0; i < found_rows.size(); ++i) {
      ASSERT_NEAR(found_rows[i], best_rows[i], 5e-6F) << target;
    }
    for (std::size_t s = 0; s < shapes.size(); ++s) {
      const std::vector<float> found = attend(shapes[s]);
      for (std::size_t i = 0; i < found.size(); ++i) {
        ASSERT_NEAR(found[i], best[s][i], 5e-6F) << target;
      }
    }
  });
#if defined(__x86_64__)
  EXPECT_GE(seen.size(), 2U);  // SSE4 and plain code at least, where the CPU has AVX2
#endif
}

}  // namespace
}  // namespace powerprefill
