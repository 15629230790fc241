#include "math/rows/row_ops.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

namespace powerprefill {
namespace {

constexpr double kUnit = 0x1p-24;  // relative error of one rounding
constexpr std::int64_t kLongest = 67;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A row at `offset` floats from an aligned address, with guards around it.
class Row {
 public:
  Row(std::int64_t n, std::int64_t offset, std::uint64_t seed, float scale = 1)
      : n_(n), offset_(offset), data_(static_cast<std::size_t>(offset + n + kGuard), kMark) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0, scale);
    for (std::int64_t i = 0; i < n; ++i) (*this)[i] = normal(random);
  }
  float* data() { return data_.data() + offset_; }
  const float* data() const { return data_.data() + offset_; }
  float& operator[](std::int64_t i) { return data()[i]; }
  float operator[](std::int64_t i) const { return data()[i]; }
  double wide(std::int64_t i) const { return static_cast<double>(data()[i]); }
  std::int64_t size() const { return n_; }

  void expect_guards() const {
    for (std::int64_t i = 0; i < std::ssize(data_); ++i) {
      if (i >= offset_ && i < offset_ + n_) continue;
      ASSERT_EQ(data_[static_cast<std::size_t>(i)], kMark) << "written at " << i - offset_;
    }
  }

 private:
  static constexpr std::int64_t kGuard = 20;
  static constexpr float kMark = -12345.5F;
  std::int64_t n_;
  std::int64_t offset_;
  std::vector<float> data_;
};

// Calls check(n, offset) for all lengths and some offsets from alignment.
void for_lengths(const std::function<void(std::int64_t, std::int64_t)>& check) {
  for (std::int64_t n = 1; n <= kLongest; ++n) {
    for (const std::int64_t offset : {0, 1, 3, 7}) {
      SCOPED_TRACE(testing::Message() << "n " << n << " offset " << offset);
      check(n, offset);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

std::uint64_t seed_of(std::int64_t n, std::int64_t offset, int which) {
  return static_cast<std::uint64_t>((n * 10 + offset) * 10 + which);
}

TEST(RowOps, Dot) {
  for_lengths([](std::int64_t n, std::int64_t offset) {
    const Row a(n, offset, seed_of(n, offset, 0));
    const Row b(n, 7 - offset, seed_of(n, offset, 1));
    double sum = 0;
    double magnitude = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      sum += a.wide(i) * b.wide(i);
      magnitude += std::fabs(a.wide(i) * b.wide(i));
    }
    const float found = dot(a.data(), b.data(), n);
    ASSERT_NEAR(static_cast<double>(found), sum, static_cast<double>(n + 1) * kUnit * magnitude);
    // The order of additions is fixed: the address makes no difference.
    Row copy(n, 5, 0);
    std::copy_n(a.data(), n, copy.data());
    ASSERT_EQ(dot(copy.data(), b.data(), n), found);
  });
  const Row a(4096, 1, 3);
  const Row b(4096, 2, 4);
  double sum = 0;
  double magnitude = 0;
  for (std::int64_t i = 0; i < 4096; ++i) {
    sum += a.wide(i) * b.wide(i);
    magnitude += std::fabs(a.wide(i) * b.wide(i));
  }
  EXPECT_NEAR(static_cast<double>(dot(a.data(), b.data(), 4096)), sum, 4097 * kUnit * magnitude);
}

TEST(RowOps, RmsNorm) {
  for_lengths([](std::int64_t n, std::int64_t offset) {
    for (const float scale : {1.0F, 1e-4F, 1e4F}) {
      const Row x(n, offset, seed_of(n, offset, 2), scale);
      const Row weight(n, 7 - offset, seed_of(n, offset, 3));
      double squares = 0;
      for (std::int64_t i = 0; i < n; ++i) squares += x.wide(i) * x.wide(i);
      const auto epsilon = 1e-6F;
      const double factor =
          1 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(epsilon));
      Row out(n, offset, 0);
      rms_norm(x.data(), weight.data(), epsilon, n, out.data());
      // Squares (n + 1) u, halved by the root; mean, sum, root, quotient, two products.
      const double relative = (static_cast<double>(n + 1) / 2 + 6) * kUnit;
      for (std::int64_t i = 0; i < n; ++i) {
        const double expected = weight.wide(i) * x.wide(i) * factor;
        ASSERT_NEAR(out.wide(i), expected, relative * std::fabs(expected)) << i;
      }
      out.expect_guards();
      Row in_place = x;
      rms_norm(in_place.data(), weight.data(), epsilon, n, in_place.data());
      for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(in_place[i], out[i]);
      in_place.expect_guards();
    }
  });
}

TEST(RowOps, RmsNormOfZerosIsZero) {
  std::vector<float> x(19, 0.0F);
  const std::vector<float> weight(19, 2.0F);
  rms_norm(x.data(), weight.data(), 1e-6F, 19, x.data());
  for (const float v : x) EXPECT_EQ(v, 0.0F);
}

double silu(double v) {
  return v / (1 + std::exp(-v));
}

TEST(RowOps, SiluMultiply) {
  for_lengths([](std::int64_t n, std::int64_t offset) {
    const Row gate(n, offset, seed_of(n, offset, 4), 8);
    const Row up(n, 7 - offset, seed_of(n, offset, 5));
    Row out = gate;
    silu_multiply(out.data(), up.data(), n);
    for (std::int64_t i = 0; i < n; ++i) {
      const double expected = silu(gate.wide(i)) * up.wide(i);
      // exp 2 u, 1 + e, quotient, product: 5 u, and a little for the second order.
      ASSERT_NEAR(out.wide(i), expected, 6 * kUnit * std::fabs(expected)) << gate[i];
    }
    out.expect_guards();
  });
}

// Far out on both sides, in the vectorised part and in the rest of the row. Where exp(-v) is beyond
// f32 the quotient is 0, which is less than 89 / FLT_MAX away.
TEST(RowOps, SiluOfLargeValues) {
  constexpr float largest = std::numeric_limits<float>::max();
  constexpr double vanishing = 89 / static_cast<double>(largest);
  for (const std::int64_t n : {1, 16, 17}) {
    for (const float v : {20.0F, 87.0F, 88.0F, 89.0F, 104.0F, 1000.0F, 1e30F, largest}) {
      for (const float x : {v, -v}) {
        std::vector<float> gate(static_cast<std::size_t>(n), x);
        const std::vector<float> up(static_cast<std::size_t>(n), 1.0F);
        silu_multiply(gate.data(), up.data(), n);
        const double expected = silu(static_cast<double>(x));
        for (const float out : gate) {
          ASSERT_NEAR(static_cast<double>(out), expected,
                      6 * kUnit * std::fabs(expected) + vanishing)
              << x;
        }
      }
    }
  }
}

TEST(RowOps, Add) {
  for_lengths([](std::int64_t n, std::int64_t offset) {
    const Row x(n, offset, seed_of(n, offset, 6));
    const Row y(n, 7 - offset, seed_of(n, offset, 7));
    Row sum = y;
    add(sum.data(), x.data(), n);
    for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(sum[i], y[i] + x[i]);
    sum.expect_guards();
  });
}

TEST(RowOps, RotatePairs) {
  for_lengths([](std::int64_t half, std::int64_t offset) {
    const std::int64_t n = 2 * half;
    const Row x(n, offset, seed_of(n, offset, 8));
    Row cosine(half, 7 - offset, 0);
    Row sine(half, offset, 0);
    for (std::int64_t i = 0; i < half; ++i) {
      cosine[i] = static_cast<float>(std::cos(0.7 * static_cast<double>(i) + 0.1));
      sine[i] = static_cast<float>(std::sin(0.7 * static_cast<double>(i) + 0.1));
    }
    Row out(n, 7 - offset, 0);
    rotate_pairs(x.data(), cosine.data(), sine.data(), n, out.data());
    for (std::int64_t i = 0; i < half; ++i) {
      const double a = x.wide(i);
      const double b = x.wide(half + i);
      const double tolerance = 2.01 * kUnit * (std::fabs(a) + std::fabs(b));
      ASSERT_NEAR(out.wide(i), a * cosine.wide(i) - b * sine.wide(i), tolerance);
      ASSERT_NEAR(out.wide(half + i), b * cosine.wide(i) + a * sine.wide(i), tolerance);
    }
    out.expect_guards();
    Row in_place = x;
    rotate_pairs(in_place.data(), cosine.data(), sine.data(), n, in_place.data());
    for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(in_place[i], out[i]);
    in_place.expect_guards();
  });
}

// Several merges of rows of any width and count give the softmax of all scores.
TEST(RowOps, MergeSoftmaxRow) {
  for_lengths([](std::int64_t width, std::int64_t offset) {
    for (const std::int64_t count : {std::int64_t{1}, (width + 1) / 2, width}) {
      const std::int64_t out_size = (width + offset) % 19 + 1;
      float maximum = -kInfinity;
      float sum = 0;
      Row out(out_size, offset, 0);
      std::fill_n(out.data(), out_size, 0.0F);
      std::vector<double> seen;  // all scores so far
      double total = 0;          // of all weights, as out accumulates them
      for (int merge = 0; merge < 4; ++merge) {
        Row scores(width, offset, seed_of(width, offset, merge), 5);
        const Row before = scores;
        float largest = maximum;
        for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, before[i]);
        merge_softmax_row(scores.data(), count, width, maximum, sum, out.data(), out_size);
        scores.expect_guards();
        out.expect_guards();
        ASSERT_EQ(maximum, largest);
        for (std::int64_t i = 0; i < count; ++i) {
          const double distance = before.wide(i) - static_cast<double>(maximum);
          const double expected = std::exp(distance);
          ASSERT_NEAR(scores.wide(i), expected, (std::fabs(distance) + 3) * kUnit * expected);
          seen.push_back(before.wide(i));
        }
        for (std::int64_t i = count; i < width; ++i) {
          ASSERT_EQ(std::bit_cast<std::uint32_t>(scores[i]), 0U);
        }
        // As the product with values of 1, 2, 3, ... would.
        for (std::int64_t j = 0; j < out_size; ++j) {
          for (std::int64_t i = 0; i < count; ++i) out[j] += scores[i] * static_cast<float>(j + 1);
        }
        total = 0;
        double farthest = 0;
        for (const double s : seen) {
          total += std::exp(s - static_cast<double>(maximum));
          farthest = std::max(farthest, std::fabs(s - static_cast<double>(maximum)));
        }
        const double steps = static_cast<double>(seen.size()) + 4 * (farthest + 4);
        ASSERT_NEAR(static_cast<double>(sum), total, steps * kUnit * total);
        for (std::int64_t j = 0; j < out_size; ++j) {
          const double expected = total * static_cast<double>(j + 1);
          ASSERT_NEAR(out.wide(j), expected, (steps + 2) * kUnit * expected);
        }
      }
    }
  });
}

TEST(RowOps, MergeSoftmaxRowOfFarScores) {
  float maximum = -kInfinity;
  float sum = 0;
  std::vector<float> out(3, 0.0F);
  std::vector<float> scores(20, -1e30F);
  merge_softmax_row(scores.data(), 20, 20, maximum, sum, out.data(), 3);
  EXPECT_EQ(maximum, -1e30F);
  EXPECT_EQ(sum, 20.0F);
  std::fill(out.begin(), out.end(), 20.0F);
  scores.assign(20, 1e30F);  // all that was before vanishes
  merge_softmax_row(scores.data(), 20, 20, maximum, sum, out.data(), 3);
  EXPECT_EQ(sum, 20.0F);
  EXPECT_EQ(out, std::vector<float>(3, 0.0F));
  scores.assign(20, -1e30F);  // adds nothing
  merge_softmax_row(scores.data(), 20, 20, maximum, sum, out.data(), 3);
  EXPECT_EQ(sum, 20.0F);
  EXPECT_EQ(scores, std::vector<float>(20, 0.0F));
}

TEST(RowOps, MergeSoftmaxRowKeepsWhatIsNoNumber) {
  for (std::int64_t count = 1; count < 40; ++count) {
    for (std::int64_t at = 0; at < count; ++at) {
      float maximum = -kInfinity;
      float sum = 0;
      std::vector<float> out(9, 0.0F);
      Row scores(40, 1, 77);
      scores[at] = std::numeric_limits<float>::quiet_NaN();
      merge_softmax_row(scores.data(), count, 40, maximum, sum, out.data(), 9);
      EXPECT_TRUE(std::isnan(sum)) << at << " of " << count;
      EXPECT_TRUE(std::isnan(scores[at]));
    }
  }
}

// What lies beyond `count` has no influence, not even as NaN.
TEST(RowOps, MergeSoftmaxRowIgnoresTheRest) {
  for (std::int64_t count = 1; count < 40; ++count) {
    float maximum[2] = {0.5F, 0.5F};
    float sum[2] = {2, 2};
    std::vector<float> out[2] = {std::vector<float>(9, 1.0F), std::vector<float>(9, 1.0F)};
    Row scores(40, 1, 77);
    Row other = scores;
    for (std::int64_t i = count; i < 40; ++i) other[i] = std::numeric_limits<float>::quiet_NaN();
    merge_softmax_row(scores.data(), count, 40, maximum[0], sum[0], out[0].data(), 9);
    merge_softmax_row(other.data(), count, 40, maximum[1], sum[1], out[1].data(), 9);
    EXPECT_EQ(maximum[0], maximum[1]);
    EXPECT_EQ(sum[0], sum[1]);
    EXPECT_EQ(out[0], out[1]);
    for (std::int64_t i = 0; i < 40; ++i) EXPECT_EQ(scores[i], other[i]);
  }
}

TEST(RowOps, TheInstructionSetHasAName) {
  EXPECT_FALSE(simd_target().empty());
}

}  // namespace
}  // namespace powerprefill
