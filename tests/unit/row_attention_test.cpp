#include "math/attention/row_attention.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "math/rows/convert.hpp"
#include "math/rows/row_ops.hpp"
#include "support/random_values.hpp"

namespace powerprefill {
namespace {

constexpr double kUnit = 0x1p-23;

// Rows in `dtype`, one byte off any alignment and apart from each other, and their exact values.
class Rows {
 public:
  Rows(DType dtype, std::int64_t rows, std::int64_t d, unsigned seed)
      : dtype_(dtype),
        rows_(rows),
        stride_(d * static_cast<std::int64_t>(bytes_of(dtype)) + 6),
        d_(d),
        bytes_(static_cast<std::size_t>(rows * stride_ + 1), std::byte{0xFF}),
        values_(static_cast<std::size_t>(rows * d)) {
    const std::vector<float> random = random_values(rows * d, seed);
    for (std::int64_t t = 0; t < rows; ++t) {
      std::byte* row = bytes_.data() + 1 + t * stride_;
      const auto from = static_cast<std::size_t>(t * d);
      EXPECT_TRUE(
          round_to(dtype, std::span(random).subspan(from, static_cast<std::size_t>(d)), row));
      widen(dtype, row, std::span(values_).subspan(from, static_cast<std::size_t>(d)));
    }
  }
  HeadRows view(std::int64_t first, std::int64_t count) const {
    return {dtype_, bytes_.data() + 1 + first * stride_, stride_, count};
  }
  HeadRows view() const { return view(0, rows_); }
  double value(std::int64_t row, std::int64_t i) const {
    return values_[static_cast<std::size_t>(row * d_ + i)];
  }

 private:
  DType dtype_;
  std::int64_t rows_;
  std::int64_t stride_;
  std::int64_t d_;
  std::vector<std::byte> bytes_;
  std::vector<float> values_;
};

template <typename Check>
void for_shapes(const Check& check) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const std::int64_t d : {1, 20, 64, 128}) {
      for (const std::int64_t heads : {1, 2, 3, 4, 7, 9}) {
        for (const std::int64_t rows : {1, 2, 5, 23}) {
          SCOPED_TRACE(testing::Message()
                       << name_of(dtype) << " D " << d << " heads " << heads << " rows " << rows);
          check(dtype, d, heads, rows);
        }
      }
    }
  }
}

TEST(RowAttention, Scores) {
  for_shapes([](DType dtype, std::int64_t d, std::int64_t heads, std::int64_t rows) {
    const Rows keys(dtype, rows, d, 1);
    const std::vector<float> query = random_values(heads * d, 2);
    const std::int64_t ld = rows + 3;
    std::vector<float> scores(static_cast<std::size_t>(heads * ld), -7.0F);
    score_rows(keys.view(), query.data(), heads, d, 0.5F, scores.data(), ld);
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t t = 0; t < rows; ++t) {
        double sum = 0;
        double size = 0;
        for (std::int64_t i = 0; i < d; ++i) {
          const double product = keys.value(t, i) * query[static_cast<std::size_t>(h * d + i)];
          sum += product;
          size += std::fabs(product);
        }
        const float found = scores[static_cast<std::size_t>(h * ld + t)];
        ASSERT_NEAR(found, 0.5 * sum, 0.5 * static_cast<double>(d + 1) * kUnit * size);
        // Alone it is the same: what is computed beside it makes no difference.
        float alone = 0;
        score_rows(keys.view(t, 1), query.data() + h * d, 1, d, 0.5F, &alone, 1);
        ASSERT_EQ(alone, found);
      }
      for (std::int64_t t = rows; t < ld; ++t) {
        ASSERT_EQ(scores[static_cast<std::size_t>(h * ld + t)], -7.0F);
      }
    }
  });
}

TEST(RowAttention, WeightedRows) {
  for_shapes([](DType dtype, std::int64_t d, std::int64_t heads, std::int64_t rows) {
    const Rows values(dtype, rows, d, 3);
    const std::int64_t ld = rows + 3;
    const std::vector<float> weights = random_values(heads * ld, 4);
    const std::vector<float> before = random_values(heads * d, 5);
    std::vector<float> out = before;
    add_weighted_rows(values.view(), weights.data(), ld, heads, d, out.data());
    std::vector<float> alone = before;
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t t = 0; t < rows; ++t) {
        add_weighted_rows(values.view(t, 1), weights.data() + h * ld + t, ld, 1, d,
                          alone.data() + h * d);
      }
      for (std::int64_t i = 0; i < d; ++i) {
        const auto at = static_cast<std::size_t>(h * d + i);
        double sum = before[at];
        double size = std::fabs(sum);
        for (std::int64_t t = 0; t < rows; ++t) {
          const double product = weights[static_cast<std::size_t>(h * ld + t)] * values.value(t, i);
          sum += product;
          size += std::fabs(product);
        }
        ASSERT_NEAR(out[at], sum, static_cast<double>(rows + 1) * kUnit * size);
      }
    }
    ASSERT_EQ(out, alone);
  });
}

// Runs of keys merged apart and then combined are attention over all of them.
TEST(RowAttention, CombinedStates) {
  constexpr std::int64_t d = 24;
  const Rows keys(DType::f32, 40, d, 6);
  const Rows values(DType::f32, 40, d, 7);
  const std::vector<float> query = random_values(d, 8);
  std::vector<double> expected(d, 0.0);
  double total = 0;
  for (std::int64_t t = 0; t < 40; ++t) {
    double score = 0;
    for (std::int64_t i = 0; i < d; ++i)
      score += keys.value(t, i) * query[static_cast<std::size_t>(i)];
    total += std::exp(score);
    for (std::int64_t i = 0; i < d; ++i) {
      expected[static_cast<std::size_t>(i)] += std::exp(score) * values.value(t, i);
    }
  }
  for (const std::vector<std::int64_t>& ends :
       {std::vector<std::int64_t>{40}, {1, 40}, {13, 14, 30, 40}}) {
    std::vector<float> states;
    std::int64_t begin = 0;
    for (const std::int64_t end : ends) {
      std::vector<float> state(d + 2, 0.0F);
      state[0] = -std::numeric_limits<float>::infinity();
      std::vector<float> scores(static_cast<std::size_t>(end - begin));
      score_rows(keys.view(begin, end - begin), query.data(), 1, d, 1.0F, scores.data(),
                 end - begin);
      merge_softmax_row(scores.data(), end - begin, end - begin, state[0], state[1],
                        state.data() + 2, d);
      add_weighted_rows(values.view(begin, end - begin), scores.data(), end - begin, 1, d,
                        state.data() + 2);
      states.insert(states.end(), state.begin(), state.end());
      begin = end;
    }
    std::vector<float> out(d);
    combine_states({states.data(), states.data() + 1, states.data() + 2, d + 2,
                    static_cast<std::int64_t>(ends.size())},
                   d, out.data());
    for (std::int64_t i = 0; i < d; ++i) {
      EXPECT_NEAR(out[static_cast<std::size_t>(i)], expected[static_cast<std::size_t>(i)] / total,
                  3e-6);
    }
  }
}

}  // namespace
}  // namespace powerprefill
