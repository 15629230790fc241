// The bf16 path: rounding, linear layers and attention, emulated everywhere and by the CPU's own
// instructions where it has them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "base/checked.hpp"
#include "base/dtype.hpp"
#include "math/attention/attention.hpp"
#include "math/attention/bf16_attention.hpp"
#include "math/linear/bf16_matmul.hpp"
#include "math/linear/compute.hpp"
#include "math/linear/linear.hpp"
#include "math/rows/row_ops.hpp"
#include "support/random_values.hpp"
#include "support/weight_matrix.hpp"

namespace powerprefill {
namespace {

TEST(Bf16Rounding, IsThatOfOneValueAtATime) {
  std::vector<float> values = random_values(1003, 1, 1e3F);
  for (const float special : {0.0F, -0.0F, 1.00390625F, 1.01171875F, 3.4e38F, 1e-40F, -1e-45F,
                              std::numeric_limits<float>::infinity()}) {
    values.push_back(special);
  }
  const std::vector<std::uint16_t> bits = operands(values);
  std::vector<float> wide = values;
  round_to_bf16_in_f32(wide.data(), std::ssize(wide), wide.data());
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(bits[i], bf16_from_f32(values[i])) << values[i];
    EXPECT_EQ(bf16_from_f32(wide[i]), bits[i]);
    EXPECT_EQ(rounded(wide[i]), wide[i]);
  }
}

TEST(Bf16Rounding, KeepsNan) {
  for (const std::uint32_t bits : {0x7FFFFFFFU, 0xFFFFFFFFU, 0x7F800001U, 0x7FC00000U}) {
    const std::vector<float> values(19, std::bit_cast<float>(bits));
    for (const std::uint16_t half : operands(values)) EXPECT_TRUE(std::isnan(f32_from_bf16(half)));
  }
}

TEST(Bf16Rounding, WorksInPlace) {
  std::vector<float> values = random_values(517, 2);
  const std::vector<std::uint16_t> expected = operands(values);
  store_operands(Compute::bf16, values.data(), std::ssize(values), values.data());
  EXPECT_EQ(std::memcmp(values.data(), expected.data(), expected.size() * 2), 0);
}

TEST(Bf16Linear, AgreesWithDoublePrecision) {
  ThreadPool pool(2);
  for (const Compute compute : bf16_computes()) {
    for (const auto& [inputs, outputs] :
         {std::pair<std::int64_t, std::int64_t>{64, 40}, {896, 1200}, {33, 513}}) {
      const std::vector<float> w = random_values(inputs * outputs, 3);
      const std::vector<float> x = random_values(2 * kTileTokens * inputs, 4);
      const std::vector<float> bias = random_values(outputs, 5);
      const Matrix matrix(compute, inputs, outputs, w);
      AlignedBuffer<std::byte> rows(2 * kTileTokens * inputs * operand_bytes(compute));
      store_operands(compute, x.data(), std::ssize(x), rows.data());
      std::vector<float> y(static_cast<std::size_t>(2 * kTileTokens * outputs));
      const Linear linear = {matrix.weight, bias, inputs, outputs};
      apply_linear(pool, linear, 2, {rows.data(), inputs}, {y.data(), outputs}, false);
      std::vector<float> row_y(static_cast<std::size_t>(outputs));
      apply_linear_row(pool, linear, x.data(), 0, outputs, row_y.data());
      std::vector<float> part(static_cast<std::size_t>(outputs), -1.0F);
      apply_linear_row(pool, linear, x.data(), outputs / 3, outputs / 2, part.data());
      for (std::int64_t r = 0; r < 2 * kTileTokens; r += 37) {
        for (std::int64_t o = 0; o < outputs; ++o) {
          double sum = bias[static_cast<std::size_t>(o)];
          double size = std::abs(sum);
          for (std::int64_t i = 0; i < inputs; ++i) {
            const double product = double{rounded(x[static_cast<std::size_t>(r * inputs + i)])} *
                                   double{rounded(w[static_cast<std::size_t>(o * inputs + i)])};
            sum += product;
            size += std::abs(product);
          }
          const double bound = 6e-8 * static_cast<double>(inputs + 2) * size;
          ASSERT_NEAR(y[static_cast<std::size_t>(r * outputs + o)], sum, bound);
          if (r == 0) {
            ASSERT_NEAR(row_y[static_cast<std::size_t>(o)], sum, bound);
            const bool in_part = o >= outputs / 3 && o < outputs / 2;
            ASSERT_EQ(part[static_cast<std::size_t>(o)],
                      in_part ? row_y[static_cast<std::size_t>(o)] : -1.0F);
          }
        }
      }
      // Adding to what is there.
      const std::vector<float> before = y;
      const Linear plain = {matrix.weight, {}, inputs, outputs};
      apply_linear(pool, plain, 2, {rows.data(), inputs}, {y.data(), outputs}, true);
      for (std::size_t i = 0; i < y.size(); i += 101) {
        const float product = before[i] - bias[i % static_cast<std::size_t>(outputs)];
        ASSERT_NEAR(y[i], before[i] + product, 1e-4F * (1.0F + std::abs(before[i])));
      }
    }
  }
}

struct Problem {
  AttentionShape shape;
  DType dtype;
  std::int64_t present;
  bool diagonal;
};

// Two key blocks merged; the results of all rows, (rows, D), divided by their sums.
class Bf16Attention : public testing::TestWithParam<Problem> {
 protected:
  Bf16Attention() : p(GetParam()) {
    use_one_blas_thread();
    const std::int64_t d = p.shape.head_dim;
    query = random_values(p.shape.rows() * d, 6, 2.0F);
    for (int b = 0; b < 2; ++b) {
      keys.push_back(random_values(p.shape.block * d, 7U + static_cast<unsigned>(b)));
      values.push_back(random_values(p.shape.block * d, 9U + static_cast<unsigned>(b)));
    }
  }
  std::int64_t present(int block) const { return block == 0 ? p.present : p.shape.block; }

  std::vector<float> emulated() const {
    AttentionShape shape = p.shape;
    shape.compute = Compute::bf16_emulated;
    const auto as_operands = [](std::vector<float> x) {
      round_to_bf16_in_f32(x.data(), std::ssize(x), x.data());
      return x;
    };
    const std::int64_t d = shape.head_dim;
    const std::vector<float> q = as_operands(query);
    std::vector<float> out(q.size());
    std::vector<float> sum(static_cast<std::size_t>(shape.rows()));
    std::vector<float> maximum(sum.size(), -std::numeric_limits<float>::infinity());
    AttentionScratch scratch(shape);
    for (int b = 0; b < 2; ++b) {
      const std::vector<float> k = as_operands(keys[static_cast<std::size_t>(b)]);
      const std::vector<float> v = as_operands(values[static_cast<std::size_t>(b)]);
      merge_key_block(shape, {q.data(), maximum.data(), sum.data(), out.data()}, {k.data(), d},
                      {v.data(), d}, present(b), b == 0 && p.diagonal, scratch);
    }
    for (std::size_t i = 0; i < out.size(); ++i) out[i] /= sum[i / static_cast<std::size_t>(d)];
    return out;
  }

  std::vector<float> native(Bf16Isa isa) const {
    const std::int64_t d = p.shape.head_dim;
    const std::int64_t rows = round_up(p.shape.rows(), kBf16Rows);
    const std::int64_t columns = round_up(d, kBf16Columns);
    AlignedBuffer<std::uint16_t> q(rows * columns);
    for (std::int64_t r = 0; r < p.shape.rows(); ++r) {
      round_to_bf16(query.data() + r * d, d, q.data() + r * columns);
    }
    AlignedBuffer<float> out(rows * columns);
    AlignedBuffer<float> sum(rows);
    AlignedBuffer<float> maximum(rows);
    std::fill(maximum.span().begin(), maximum.span().end(),
              -std::numeric_limits<float>::infinity());
    Bf16Scratch scratch(p.shape);
    const auto bytes = static_cast<std::int64_t>(bytes_of(p.dtype));
    for (int b = 0; b < 2; ++b) {
      std::vector<std::byte> k(keys[0].size() * bytes_of(p.dtype));
      std::vector<std::byte> v(k.size());
      for (std::size_t i = 0; i < keys[0].size(); ++i) {
        store(keys[static_cast<std::size_t>(b)][i], k.data() + i * bytes_of(p.dtype));
        store(values[static_cast<std::size_t>(b)][i], v.data() + i * bytes_of(p.dtype));
      }
      merge_key_block_bf16(
          isa, p.shape, {q.data(), maximum.data(), sum.data(), out.data()},
          {{p.dtype, k.data(), d * bytes, present(b)}, {p.dtype, v.data(), d * bytes, present(b)}},
          b == 0 && p.diagonal, scratch);
    }
    std::vector<float> result;
    for (std::int64_t r = 0; r < p.shape.rows(); ++r) {
      for (std::int64_t i = 0; i < d; ++i) {
        result.push_back(out[static_cast<std::size_t>(r * columns + i)] /
                         sum[static_cast<std::size_t>(r)]);
      }
    }
    return result;
  }
  void store(float value, std::byte* to) const {
    const std::uint16_t bits = bf16_from_f32(value);
    if (p.dtype == DType::bf16) {
      std::memcpy(to, &bits, sizeof bits);
    } else {
      std::memcpy(to, &value, sizeof value);
    }
  }

  Problem p;
  std::vector<float> query;
  std::vector<std::vector<float>> keys;
  std::vector<std::vector<float>> values;
};

// Probabilities are rounded at a running maximum that differs with the order of tiles, so that the
// two differ by up to two roundings of the values' weights, 2^-8 of a weighted mean of values, and
// the scores by f32 roundings.
TEST_P(Bf16Attention, NativeAgreesWithEmulated) {
  if (bf16_isa() == Bf16Isa::none) GTEST_SKIP() << "this CPU has no bf16 instructions";
  const std::vector<float> expected = emulated();
  for (const Bf16Isa isa : {Bf16Isa::avx512, bf16_isa()}) {
    const std::vector<float> found = native(isa);
    double worst = 0;
    double difference = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      worst = std::max(worst, double{std::abs(found[i] - expected[i])});
      difference += std::abs(found[i] - expected[i]);
    }
    EXPECT_LT(worst, 0.02) << static_cast<int>(isa);
    EXPECT_LT(difference / static_cast<double>(found.size()), 1e-3);
  }
}

TEST_P(Bf16Attention, WhatIsNoNumberStaysSo) {
  const auto d = static_cast<std::size_t>(p.shape.head_dim);
  const auto rows = static_cast<std::size_t>(p.shape.rows());
  const std::size_t row = rows / 2;
  query[row * d] = std::nanf("");
  std::vector<std::vector<float>> results = {emulated()};
  if (bf16_isa() != Bf16Isa::none) {
    for (const Bf16Isa isa : {Bf16Isa::avx512, bf16_isa()}) results.push_back(native(isa));
  }
  for (const std::vector<float>& result : results) {
    for (std::size_t i = 0; i < result.size(); ++i) {
      ASSERT_EQ(std::isnan(result[i]), i / d == row) << i;
    }
  }
}

TEST_P(Bf16Attention, EmulatedIsCloseToF32) {
  const std::vector<float> close = emulated();
  const std::int64_t d = p.shape.head_dim;
  std::vector<float> out(query.size());
  std::vector<float> sum(static_cast<std::size_t>(p.shape.rows()));
  std::vector<float> maximum(sum.size(), -std::numeric_limits<float>::infinity());
  AttentionScratch scratch(p.shape);
  for (int b = 0; b < 2; ++b) {
    merge_key_block(p.shape, {query.data(), maximum.data(), sum.data(), out.data()},
                    {keys[static_cast<std::size_t>(b)].data(), d},
                    {values[static_cast<std::size_t>(b)].data(), d}, present(b),
                    b == 0 && p.diagonal, scratch);
  }
  double difference = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    difference += std::abs(out[i] / sum[i / static_cast<std::size_t>(d)] - close[i]);
  }
  EXPECT_LT(difference / static_cast<double>(out.size()), 0.01);
  EXPECT_GT(difference, 0);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Bf16Attention,
                         testing::Values(Problem{{7, 256, 64}, DType::bf16, 256, true},
                                         Problem{{4, 256, 128}, DType::bf16, 200, true},
                                         Problem{{2, 512, 64}, DType::bf16, 512, true},
                                         Problem{{3, 16, 8}, DType::bf16, 16, true},
                                         Problem{{1, 48, 80}, DType::bf16, 17, true},
                                         Problem{{2, 320, 32}, DType::f32, 320, true},
                                         Problem{{1, 1, 16}, DType::bf16, 1, true},
                                         Problem{{4, 64, 128}, DType::f32, 64, false}),
                         [](const auto& shape_info) {
                           const Problem& problem = shape_info.param;
                           return fmt::format("heads{}_block{}_dim{}_{}_keys{}{}",
                                              problem.shape.group_heads, problem.shape.block,
                                              problem.shape.head_dim, name_of(problem.dtype),
                                              problem.present, problem.diagonal ? "_diagonal" : "");
                         });

}  // namespace
}  // namespace powerprefill
