#include "math/linear/linear.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <tuple>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "support/random_values.hpp"
#include "support/weight_matrix.hpp"

namespace powerprefill {
namespace {

struct Problem {
  std::int64_t tiles;
  std::int64_t inputs;
  std::int64_t outputs;
  bool has_bias;
  std::int64_t x_ld() const { return inputs + 3; }
  std::int64_t y_ld() const { return outputs + 5; }
  std::int64_t rows() const { return tiles * kTileTokens; }
};

constexpr float kMark = 777;

class LinearData {
 public:
  explicit LinearData(const Problem& p)
      : problem(p),
        weight(random_values(p.inputs * p.outputs, 1)),
        bias(random_values(p.has_bias ? p.outputs : 0, 2)),
        x(random_values(p.rows() * p.x_ld(), 3)) {
    use_one_blas_thread();
  }
  Linear linear() const { return {weight, bias, problem.inputs, problem.outputs}; }

  // (rows, y_ld); the columns beyond `outputs` hold marks.
  std::vector<float> apply(int threads, bool accumulate) const {
    ThreadPool pool(threads);
    std::vector<float> y(static_cast<std::size_t>(problem.rows() * problem.y_ld()), kMark);
    for (std::int64_t r = 0; r < problem.rows(); ++r) {
      for (std::int64_t o = 0; o < problem.outputs; ++o) {
        y[static_cast<std::size_t>(r * problem.y_ld() + o)] =
            accumulate ? start(r, o) : std::numeric_limits<float>::quiet_NaN();
      }
    }
    apply_linear(pool, linear(), problem.tiles, {x.data(), problem.x_ld()},
                 {y.data(), problem.y_ld()}, accumulate);
    return y;
  }
  // What y holds before an accumulating product.
  static float start(std::int64_t r, std::int64_t o) {
    return static_cast<float>((r * 7 + o * 3) % 11 - 5);
  }

  Problem problem;
  std::vector<float> weight;
  std::vector<float> bias;
  std::vector<float> x;
};

class LinearTest : public testing::TestWithParam<std::tuple<Problem, bool>> {};

TEST_P(LinearTest, AgreesWithDoublePrecision) {
  const auto& [p, accumulate] = GetParam();
  const LinearData data(p);
  const std::vector<float> y = data.apply(1, accumulate);
  for (std::int64_t r = 0; r < p.rows(); r += r % 13 == 0 ? 1 : 3) {
    for (std::int64_t o = 0; o < p.outputs; ++o) {
      double sum = accumulate ? static_cast<double>(LinearData::start(r, o)) : 0;
      double magnitude = std::fabs(sum);
      for (std::int64_t i = 0; i < p.inputs; ++i) {
        const double product =
            static_cast<double>(data.x[static_cast<std::size_t>(r * p.x_ld() + i)]) *
            static_cast<double>(data.weight[static_cast<std::size_t>(o * p.inputs + i)]);
        sum += product;
        magnitude += std::fabs(product);
      }
      if (p.has_bias) {
        sum += static_cast<double>(data.bias[static_cast<std::size_t>(o)]);
        magnitude += std::fabs(static_cast<double>(data.bias[static_cast<std::size_t>(o)]));
      }
      const double found = static_cast<double>(y[static_cast<std::size_t>(r * p.y_ld() + o)]);
      ASSERT_NEAR(found, sum, static_cast<double>(p.inputs + 3) * 0x1p-24 * magnitude)
          << "row " << r << " output " << o;
    }
    for (std::int64_t o = p.outputs; o < p.y_ld(); ++o) {
      ASSERT_EQ(y[static_cast<std::size_t>(r * p.y_ld() + o)], kMark) << "row " << r;
    }
  }
}

TEST_P(LinearTest, ThreadsChangeNoBit) {
  const auto& [p, accumulate] = GetParam();
  const LinearData data(p);
  const std::vector<float> one = data.apply(1, accumulate);
  for (const int threads : {2, 3}) {
    const std::vector<float> several = data.apply(threads, accumulate);
    ASSERT_EQ(std::memcmp(one.data(), several.data(), one.size() * sizeof(float)), 0) << threads;
  }
}

// A row of zeros is what a rank has for the tokens of another: the rows that it owns come out
// alike.
TEST_P(LinearTest, RowsDoNotDependOnEachOther) {
  const auto& [p, accumulate] = GetParam();
  const LinearData data(p);
  const std::vector<float> all = data.apply(1, accumulate);
  for (const float filler : {0.0F, -1e20F}) {
    for (const std::int64_t modulus : {2, 7, 256}) {
      LinearData some = data;
      for (std::int64_t r = 0; r < p.rows(); ++r) {
        if (r % modulus == 1) continue;
        std::fill_n(some.x.begin() + r * p.x_ld(), p.inputs, filler);
      }
      const std::vector<float> y = some.apply(2, accumulate);
      for (std::int64_t r = 1; r < p.rows(); r += modulus) {
        const auto at = static_cast<std::size_t>(r * p.y_ld());
        ASSERT_EQ(std::memcmp(all.data() + at, y.data() + at,
                              static_cast<std::size_t>(p.outputs) * sizeof(float)),
                  0)
            << "row " << r << " of every " << modulus;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, LinearTest,
    testing::Combine(testing::Values(Problem{1, 1, 1, true}, Problem{1, 33, 7, true},
                                     Problem{2, 64, 100, false}, Problem{1, 17, 1024, true},
                                     Problem{2, 40, 1025, true}, Problem{1, 8, 2300, false}),
                     testing::Bool()),
    [](const auto& shape_info) {
      const Problem& p = std::get<0>(shape_info.param);
      return std::to_string(p.tiles) + "x" + std::to_string(p.inputs) + "x" +
             std::to_string(p.outputs) +
             (std::get<1>(shape_info.param) ? "_accumulate" : "_assign");
    });

TEST(Linear, BetweenIsCalledOnTheCaller) {
  const LinearData data({2, 8, 1500, false});
  ThreadPool pool(2);
  std::vector<float> y(static_cast<std::size_t>(data.problem.rows() * data.problem.y_ld()));
  const auto caller = std::this_thread::get_id();
  int elsewhere = 0;
  apply_linear(pool, data.linear(), 2, {data.x.data(), data.problem.x_ld()},
               {y.data(), data.problem.y_ld()}, false,
               [&] { elsewhere += std::this_thread::get_id() == caller ? 0 : 1; });
  EXPECT_EQ(elsewhere, 0);
}

TEST(Linear, NoTilesTouchNothing) {
  const LinearData data({1, 8, 16, true});
  ThreadPool pool(2);
  float y = kMark;
  apply_linear(pool, data.linear(), 0, {nullptr, 8}, {&y, 16}, false);
  EXPECT_EQ(y, kMark);
}

TEST(LinearRow, AgreesWithDoublePrecisionForAnyRange) {
  constexpr std::int64_t inputs = 77;
  constexpr std::int64_t outputs = 300;
  const auto weight = random_values(inputs * outputs, 5);
  const auto x = random_values(inputs, 6);
  for (const bool has_bias : {false, true}) {
    const auto bias = random_values(has_bias ? outputs : 0, 7);
    const Linear linear = {weight, bias, inputs, outputs};
    ThreadPool one(1);
    std::vector<float> all(outputs, kMark);
    apply_linear_row(one, linear, x.data(), 0, outputs, all.data());
    for (std::int64_t o = 0; o < outputs; ++o) {
      double sum = has_bias ? static_cast<double>(bias[static_cast<std::size_t>(o)]) : 0;
      double magnitude = std::fabs(sum);
      for (std::int64_t i = 0; i < inputs; ++i) {
        const double product =
            static_cast<double>(x[static_cast<std::size_t>(i)]) *
            static_cast<double>(weight[static_cast<std::size_t>(o * inputs + i)]);
        sum += product;
        magnitude += std::fabs(product);
      }
      ASSERT_NEAR(static_cast<double>(all[static_cast<std::size_t>(o)]), sum,
                  (inputs + 2) * 0x1p-24 * magnitude);
    }
    ThreadPool three(3);
    for (const auto& [begin, end] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {0, 1}, {0, 64}, {1, 65}, {63, 64}, {100, 100}, {13, 299}, {299, 300}, {0, 300}}) {
      std::vector<float> some(outputs, kMark);
      apply_linear_row(three, linear, x.data(), begin, end, some.data());
      for (std::int64_t o = 0; o < outputs; ++o) {
        const auto at = static_cast<std::size_t>(o);
        ASSERT_EQ(some[at], o >= begin && o < end ? all[at] : kMark) << begin << " " << end;
      }
    }
  }
}

// A part of the outputs is a layer of its own, in every form that weights are kept in.
TEST(Linear, PartOfTheOutputs) {
  constexpr std::int64_t inputs = 70;
  constexpr std::int64_t outputs = 2 * kPanelOutputs + 300;
  std::vector<Compute> computes = bf16_computes();
  computes.push_back(Compute::f32);
  ThreadPool pool(2);
  for (const Compute compute : computes) {
    const Matrix matrix(compute, inputs, outputs, random_values(inputs * outputs, 4));
    const std::vector<float> bias = random_values(outputs, 5);
    const std::vector<float> x = random_values(kTileTokens * inputs, 6);
    AlignedBuffer<std::byte> operands(kTileTokens * inputs * operand_bytes(compute));
    store_operands(compute, x.data(), std::ssize(x), operands.data());
    const Linear whole = {matrix.weight, bias, inputs, outputs};
    std::vector<float> right(static_cast<std::size_t>(kTileTokens * outputs));
    apply_linear(pool, whole, 1, {operands.data(), inputs}, {right.data(), outputs}, false);
    for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>{0, kPanelOutputs},
                                       {kPanelOutputs, kPanelOutputs + 300}}) {
      const Linear part = outputs_of(whole, first, count);
      std::vector<float> y(static_cast<std::size_t>(kTileTokens * count));
      apply_linear(pool, part, 1, {operands.data(), inputs}, {y.data(), count}, false);
      for (std::int64_t r = 0; r < kTileTokens; ++r) {
        ASSERT_EQ(std::memcmp(y.data() + r * count, right.data() + r * outputs + first,
                              static_cast<std::size_t>(count) * sizeof(float)),
                  0)
            << "row " << r << " from output " << first;
      }
    }
  }
}

}  // namespace
}  // namespace powerprefill
