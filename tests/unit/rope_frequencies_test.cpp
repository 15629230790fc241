#include "model/rope_frequencies.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace powerprefill {
namespace {

// The expected values were computed in 60-digit decimal arithmetic, rounded to float32 after each
// operation of the formula given at each test. p(i) = theta^(2 i / D), f(i) = 1 / p(i).

RopeFrequencies frequencies_of(std::int64_t head_dim, const RopeParameters& rope) {
  return rope_frequencies(rope, head_dim);
}

TEST(RopeFrequencies, Default) {
  const RopeFrequencies rope = frequencies_of(16, {});
  const std::vector<float> expected = {0x1p+0F,         0x1.43d136p-2F, 0x1.99999ap-4F,
                                       0x1.030dc6p-5F,  0x1.47ae14p-7F, 0x1.9e7c70p-9F,
                                       0x1.0624dep-10F, 0x1.4b96c0p-12F};
  EXPECT_EQ(rope.inv_freq, expected);
  EXPECT_EQ(rope.attention_scaling, 1.0F);
}

// An exponent that float32 cannot hold: 2 / 6 is rounded before the power is taken.
TEST(RopeFrequencies, ExponentIsFloat32) {
  const RopeFrequencies rope = frequencies_of(6, {.theta = 1e6});
  EXPECT_EQ(rope.inv_freq, (std::vector<float>{0x1p+0F, 0x1.47ae12p-7F, 0x1.a36e26p-14F}));
}

// f(i) / factor
TEST(RopeFrequencies, Linear) {
  const RopeFrequencies rope = frequencies_of(8, {.type = "linear", .factor = 2.5});
  EXPECT_EQ(rope.inv_freq,
            (std::vector<float>{0x1.99999ap-2F, 0x1.47ae14p-5F, 0x1.0624dcp-8F, 0x1.a36e30p-12F}));
  EXPECT_EQ(rope.attention_scaling, 1.0F);
}

// With w = 2 pi / f and L = 8192: f where w < L / high; f / factor where w > L / low; else
// (1 - s) f / factor + s f with s = (L / w - low) / (high - low). Pair 4 is such a blend.
TEST(RopeFrequencies, Llama3) {
  const RopeFrequencies rope = frequencies_of(16, {.type = "llama3",
                                                   .theta = 500000.0,
                                                   .factor = 32.0,
                                                   .low_freq_factor = 1.0,
                                                   .high_freq_factor = 4.0,
                                                   .original_max_positions = 8192});
  const std::vector<float> expected = {0x1p+0F,         0x1.8d2760p-3F,  0x1.341190p-5F,
                                       0x1.ddee9ep-8F,  0x1.c26c40p-12F, 0x1.1f91f0p-17F,
                                       0x1.be2188p-20F, 0x1.5a0f4ep-22F};
  EXPECT_EQ(rope.inv_freq, expected);
  EXPECT_EQ(rope.attention_scaling, 1.0F);
}

RopeParameters yarn() {
  return {.type = "yarn", .theta = 1e6, .factor = 4.0, .original_max_positions = 32768};
}

// With d(n) = D ln(L / (2 pi n)) / (2 ln theta), the range is from floor d(32) = 2 to ceil d(1) = 5
// and e(i) = 1 - clamp((i - 2) / (5 - 2)); f(i) e + (1 - e) / (factor p(i)).
TEST(RopeFrequencies, Yarn) {
  const RopeFrequencies rope = frequencies_of(16, yarn());
  const std::vector<float> expected = {0x1p+0F,         0x1.6c310ep-3F,  0x1.030dc6p-5F,
                                       0x1.1466eap-8F,  0x1.0624dep-11F, 0x1.74eea6p-15F,
                                       0x1.094564p-17F, 0x1.796182p-20F};
  EXPECT_EQ(rope.inv_freq, expected);
  EXPECT_EQ(rope.attention_scaling, 0x1.237d38p+0F);  // 0.1 ln 4 + 1
}

// The range is from d(32) = 2.949 to d(1) = 4.956.
TEST(RopeFrequencies, YarnWithoutTruncation) {
  RopeParameters parameters = yarn();
  parameters.truncate = false;
  const RopeFrequencies rope = frequencies_of(16, parameters);
  EXPECT_EQ(rope.inv_freq[2], 0x1.030dc6p-5F);
  EXPECT_EQ(rope.inv_freq[3], 0x1.699470p-8F);
  EXPECT_EQ(rope.inv_freq[4], 0x1.3e74ecp-11F);
  EXPECT_EQ(rope.inv_freq[5], 0x1.74eea6p-15F);
}

TEST(RopeFrequencies, YarnAttentionFactor) {
  RopeParameters parameters = yarn();
  parameters.factor = 40.0;
  parameters.mscale = 0.7;
  EXPECT_EQ(frequencies_of(16, parameters).attention_scaling,
            static_cast<float>(0.1 * std::log(40.0) + 1.0));
  // (0.1 mscale ln 40 + 1) / (0.1 mscale_all_dim ln 40 + 1)
  parameters.mscale_all_dim = 1.2;
  EXPECT_EQ(frequencies_of(16, parameters).attention_scaling, 0x1.be8a84p-1F);
  parameters.attention_factor = 1.5;
  EXPECT_EQ(frequencies_of(16, parameters).attention_scaling, 1.5F);
  parameters = yarn();
  parameters.factor = 1.0;
  EXPECT_EQ(frequencies_of(16, parameters).attention_scaling, 1.0F);
}

// A range of one point must not divide by zero: here both ends are cut to 0.
TEST(RopeFrequencies, YarnRangeOfOnePoint) {
  RopeParameters parameters = yarn();
  parameters.original_max_positions = 6;
  const RopeFrequencies rope = frequencies_of(16, parameters);
  for (const float frequency : rope.inv_freq) EXPECT_TRUE(std::isfinite(frequency));
}

}  // namespace
}  // namespace powerprefill
