// The feed-forward layer's first half, in every compute type.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "math/linear/gemm.hpp"
#include "math/linear/linear.hpp"
#include "math/rows/convert.hpp"
#include "support/random_values.hpp"
#include "support/weight_matrix.hpp"

namespace powerprefill {
namespace {

class Gated : public testing::TestWithParam<std::pair<std::int64_t, std::int64_t>> {
 protected:
  static constexpr std::int64_t kRows = 2 * kTileTokens;
  Gated() { use_one_blas_thread(); }

  // (kRows, outputs) as operands.
  std::vector<std::byte> apply(Compute compute, int threads, const std::vector<float>& rows) const {
    const Matrix gate_matrix(compute, inputs, outputs, gate);
    const Matrix up_matrix(compute, inputs, outputs, up);
    AlignedBuffer<std::byte> operands_of_x(kRows * inputs * operand_bytes(compute));
    store_operands(compute, rows.data(), std::ssize(rows), operands_of_x.data());
    std::vector<std::byte> y(static_cast<std::size_t>(kRows * outputs * operand_bytes(compute)));
    ThreadPool pool(threads);
    apply_gated(pool, {gate_matrix.weight, up_matrix.weight, inputs, outputs}, 2,
                {operands_of_x.data(), inputs}, y.data());
    return y;
  }
  static double value(Compute compute, const std::vector<std::byte>& y, std::size_t at) {
    float value = 0;
    const bool halves = compute == Compute::bf16;
    widen(halves ? DType::bf16 : DType::f32, y.data() + at * (halves ? 2U : 4U), {&value, 1});
    return value;
  }

  std::int64_t inputs = GetParam().first;
  std::int64_t outputs = GetParam().second;
  std::vector<float> gate = random_values(inputs * outputs, 13);
  std::vector<float> up = random_values(inputs * outputs, 14);
  std::vector<float> x = random_values(kRows * inputs, 15);
};

std::vector<Compute> all_computes() {
  std::vector<Compute> computes = bf16_computes();
  computes.push_back(Compute::f32);
  return computes;
}

TEST_P(Gated, AgreesWithDoublePrecision) {
  for (const Compute compute : all_computes()) {
    const auto operand = [&](float v) { return double{compute == Compute::f32 ? v : rounded(v)}; };
    const std::vector<std::byte> y = apply(compute, 2, x);
    for (std::int64_t r = 0; r < kRows; r += 73) {
      for (std::int64_t o = 0; o < outputs; ++o) {
        double sums[2] = {};
        double sizes[2] = {};
        for (std::int64_t i = 0; i < inputs; ++i) {
          const double a = operand(x[static_cast<std::size_t>(r * inputs + i)]);
          for (int side = 0; side < 2; ++side) {
            const std::vector<float>& w = side == 0 ? gate : up;
            const double product = a * operand(w[static_cast<std::size_t>(o * inputs + i)]);
            sums[side] += product;
            sizes[side] += std::abs(product);
          }
        }
        const double silu = sums[0] / (1 + std::exp(-sums[0]));
        const double error = 6e-8 * static_cast<double>(inputs + 2);  // of the sums' sizes
        const double last = compute == Compute::f32 ? 1e-6 : 0x1p-8;  // of the result
        ASSERT_NEAR(value(compute, y, static_cast<std::size_t>(r * outputs + o)), silu * sums[1],
                    last * std::abs(silu * sums[1]) +
                        error * (1.1 * sizes[0] * std::abs(sums[1]) + sizes[1] * std::abs(silu)) +
                        1e-6)
            << "row " << r << " output " << o;
      }
    }
  }
}

TEST_P(Gated, ThreadsAndOtherRowsChangeNoBit) {
  for (const Compute compute : all_computes()) {
    const std::vector<std::byte> one = apply(compute, 1, x);
    EXPECT_EQ(one, apply(compute, 3, x));
    std::vector<float> some = x;
    for (std::int64_t r = 0; r < kRows; r += 2) {
      std::fill_n(some.begin() + r * inputs, inputs, -1e20F);
    }
    const std::vector<std::byte> y = apply(compute, 2, some);
    const std::int64_t row_bytes = outputs * operand_bytes(compute);
    for (std::int64_t r = 1; r < kRows; r += 2) {
      ASSERT_EQ(std::memcmp(one.data() + r * row_bytes, y.data() + r * row_bytes,
                            static_cast<std::size_t>(row_bytes)),
                0)
          << "row " << r;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Gated,
                         testing::Values(std::pair<std::int64_t, std::int64_t>{64, 40},
                                         std::pair<std::int64_t, std::int64_t>{896, 1200},
                                         std::pair<std::int64_t, std::int64_t>{33, 2060}),
                         [](const auto& shape_info) {
                           return std::to_string(shape_info.param.first) + "x" +
                                  std::to_string(shape_info.param.second);
                         });

}  // namespace
}  // namespace powerprefill
