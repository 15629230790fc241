#include "math/rows/rope.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace powerprefill {
namespace {

// Pairs (x[i], x[i + pairs]) turn, the rest of a head stays: the formula in double precision.
TEST(RopeTable, TurnsAPartOfAHead) {
  ThreadPool pool(1);
  const std::vector<float> inv_freq = {1.0F, 0.25F, 0.01F};
  const float scaling = 1.5F;
  const RopeTable table(pool, inv_freq, scaling, 100, 7);
  for (const std::int64_t head_dim : {6, 10}) {
    for (const std::int64_t position : {100, 103, 106}) {
      std::vector<float> head(static_cast<std::size_t>(head_dim));
      for (std::size_t i = 0; i < head.size(); ++i) head[i] = 0.5F * static_cast<float>(i) - 1.0F;
      std::vector<double> right(head.begin(), head.end());
      for (std::size_t i = 0; i < 3; ++i) {
        const double angle = static_cast<double>(inv_freq[i]) * static_cast<double>(position);
        const double c = std::cos(angle) * scaling;
        const double s = std::sin(angle) * scaling;
        right[i] = head[i] * c - head[i + 3] * s;
        right[i + 3] = head[i + 3] * c + head[i] * s;
      }
      std::vector<float> out(head.size(), -9.0F);
      table.turn(position, head.data(), head_dim, out.data());
      std::vector<float> in_place = head;
      table.turn(position, in_place.data(), head_dim, in_place.data());
      EXPECT_EQ(out, in_place);
      for (std::size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], right[i], 1e-5) << i;
      for (std::size_t i = 6; i < out.size(); ++i) EXPECT_EQ(out[i], head[i]) << i;
    }
  }
}

}  // namespace
}  // namespace powerprefill
