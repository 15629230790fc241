#include "math/rows/convert.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace powerprefill {
namespace {

// A binary format of 16 bits, decoded and rounded by its definition. Every finite value of both
// formats, every f32, and the middle of any two neighbours is exact in double.
struct Format {
  DType dtype;
  int mantissa_bits;
  int bias;

  std::uint32_t infinity() const { return 0x7FFFU >> mantissa_bits << mantissa_bits; }
  bool is_nan(std::uint32_t bits) const { return (bits & 0x7FFFU) > infinity(); }

  // The finite value, or for infinity the next step beyond the largest: where rounding would go.
  double value(std::uint32_t bits) const {
    const std::uint32_t exponent = (bits & 0x7FFFU) >> mantissa_bits;
    const std::uint32_t mantissa = bits & ((1U << mantissa_bits) - 1);
    const double magnitude = exponent == 0
                                 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                                 : std::ldexp(mantissa + (1U << mantissa_bits),
                                              static_cast<int>(exponent) - bias - mantissa_bits);
    return (bits & 0x8000U) != 0 ? -magnitude : magnitude;
  }

  // Nearest, ties to even, by search over all values of the format.
  std::uint16_t nearest(float x) const {
    const std::uint32_t sign = std::signbit(x) ? 0x8000U : 0U;
    const double magnitude = std::fabs(static_cast<double>(x));
    std::uint32_t low = 0;
    std::uint32_t high = infinity();
    if (magnitude >= value(high)) return static_cast<std::uint16_t>(sign | high);
    while (high - low > 1) {
      const std::uint32_t middle = (low + high) / 2;
      (value(middle) <= magnitude ? low : high) = middle;
    }
    const double tie = (value(low) + value(high)) / 2;
    const bool up = magnitude > tie || (magnitude == tie && low % 2 == 1);
    return static_cast<std::uint16_t>(sign | (up ? high : low));
  }

  float widened(std::uint16_t bits) const {
    float x = 0;
    widen(dtype, reinterpret_cast<const std::byte*>(&bits), {&x, 1});
    return x;
  }
  std::uint16_t rounded(float x, bool* finite = nullptr) const {
    std::uint16_t bits = 0;
    const bool ok = round_to(dtype, {&x, 1}, reinterpret_cast<std::byte*>(&bits));
    if (finite != nullptr) *finite = ok;
    return bits;
  }
};

constexpr Format kBf16 = {DType::bf16, 7, 127};
constexpr Format kF16 = {DType::f16, 10, 15};

class Convert : public testing::TestWithParam<Format> {};
INSTANTIATE_TEST_SUITE_P(Formats, Convert, testing::Values(kBf16, kF16), [](const auto& format) {
  return std::string(name_of(format.param.dtype));
});

TEST_P(Convert, AllBitPatternsRoundTrip) {
  const Format format = GetParam();
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float x = format.widened(static_cast<std::uint16_t>(bits));
    bool finite = true;
    const std::uint16_t back = format.rounded(x, &finite);
    if (format.is_nan(bits)) {
      ASSERT_TRUE(std::isnan(x)) << bits;
      ASSERT_TRUE(format.is_nan(back)) << bits;
      ASSERT_EQ(back & 0x8000U, bits & 0x8000U);
      ASSERT_FALSE(finite);
    } else if ((bits & 0x7FFFU) == format.infinity()) {
      ASSERT_TRUE(std::isinf(x));
      ASSERT_EQ(std::signbit(x), bits >= 0x8000U);
      ASSERT_EQ(back, bits);
      ASSERT_FALSE(finite);
    } else {
      ASSERT_EQ(static_cast<double>(x), format.value(bits)) << bits;
      ASSERT_EQ(std::signbit(x), bits >= 0x8000U);
      ASSERT_EQ(back, bits);
      ASSERT_TRUE(finite) << bits;
    }
  }
}

// At each middle of two neighbours, and one f32 to either side of it.
TEST_P(Convert, TiesGoToEven) {
  const Format format = GetParam();
  for (std::uint32_t bits = 0; bits < format.infinity(); ++bits) {
    const double middle = (format.value(bits) + format.value(bits + 1)) / 2;
    const auto tie = static_cast<float>(middle);
    if (static_cast<double>(tie) != middle) continue;  // not an f32: below bf16's subnormals only
    const std::uint32_t even = bits + bits % 2;
    bool finite = true;
    ASSERT_EQ(format.rounded(tie, &finite), even);
    ASSERT_EQ(finite, even < format.infinity()) << tie;
    ASSERT_EQ(format.rounded(-tie), even | 0x8000U);
    const float below = std::nextafter(tie, 0.0F);
    const float above = std::nextafter(tie, std::numeric_limits<float>::infinity());
    ASSERT_EQ(format.rounded(below, &finite), bits);
    ASSERT_TRUE(finite);
    ASSERT_EQ(format.rounded(above, &finite), bits + 1);
    ASSERT_EQ(finite, bits + 1 < format.infinity());
  }
}

TEST_P(Convert, AgreesWithTheNearestValueEverywhere) {
  const Format format = GetParam();
  for (std::uint64_t bits = 0; bits < 0x7F800000U; bits += 20011) {
    for (const std::uint32_t sign : {0U, 0x80000000U}) {
      const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(bits) | sign);
      bool finite = true;
      const std::uint16_t expected = format.nearest(x);
      ASSERT_EQ(format.rounded(x, &finite), expected) << x;
      ASSERT_EQ(finite, (expected & 0x7FFFU) < format.infinity()) << x;
    }
  }
}

TEST_P(Convert, NotFiniteIsReported) {
  const Format format = GetParam();
  for (const float x : {std::numeric_limits<float>::infinity(), std::nanf("1"),
                        std::numeric_limits<float>::max(), std::bit_cast<float>(0x7F800001U)}) {
    for (const float signed_x : {x, -x}) {
      bool finite = true;
      const std::uint16_t bits = format.rounded(signed_x, &finite);
      EXPECT_FALSE(finite) << signed_x;
      EXPECT_EQ(format.is_nan(bits), std::isnan(x));
    }
  }
  // One bad value among many, at any place.
  std::vector<float> row(33, 1.5F);
  std::vector<std::byte> bits(66);
  EXPECT_TRUE(round_to(format.dtype, row, bits.data()));
  for (std::size_t i = 0; i < row.size(); ++i) {
    std::vector<float> bad = row;
    bad[i] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_FALSE(round_to(format.dtype, bad, bits.data())) << i;
  }
}

// All 16-bit patterns, each alone and as the last of a row of ordinary values.
TEST(Finite, EveryPattern) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    std::vector<std::uint16_t> row(67, 0x3C00U);
    for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
      const auto half = static_cast<std::uint16_t>(bits);
      const float value = dtype == DType::bf16 ? f32_from_bf16(half) : f32_from_f16(half);
      row.back() = half;
      ASSERT_EQ(are_finite(dtype, std::as_bytes(std::span(row))), std::isfinite(value)) << bits;
      ASSERT_EQ(are_finite(dtype, std::as_bytes(std::span(row).last(1))), std::isfinite(value));
    }
  }
  std::vector<float> row(67, std::numeric_limits<float>::max());
  EXPECT_TRUE(are_finite(DType::f32, std::as_bytes(std::span(row))));
  for (const float value : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    for (const std::size_t at : {std::size_t{0}, std::size_t{31}, std::size_t{66}}) {
      std::vector<float> bad = row;
      bad[at] = -value;
      EXPECT_FALSE(are_finite(DType::f32, std::as_bytes(std::span(bad))));
    }
  }
}

TEST(ConvertF16, OverflowBeginsAt65520) {
  bool finite = true;
  EXPECT_EQ(kF16.rounded(65504.0F, &finite), 0x7BFF);
  EXPECT_TRUE(finite);
  EXPECT_EQ(kF16.rounded(65519.99F, &finite), 0x7BFF);
  EXPECT_TRUE(finite);
  EXPECT_EQ(kF16.rounded(std::nextafter(65520.0F, 0.0F), &finite), 0x7BFF);
  EXPECT_TRUE(finite);
  EXPECT_EQ(kF16.rounded(65520.0F, &finite), 0x7C00);
  EXPECT_FALSE(finite);
  EXPECT_EQ(kF16.rounded(-65520.0F, &finite), 0xFC00);
  EXPECT_FALSE(finite);
  EXPECT_EQ(kF16.rounded(0x1p-25F), 0);  // half of the least subnormal: even
  EXPECT_EQ(kF16.rounded(std::nextafter(0x1p-25F, 1.0F)), 1);
  EXPECT_EQ(kF16.rounded(0x1.8p-24F), 2);
  EXPECT_EQ(kF16.rounded(std::nextafter(0x1p-14F, 0.0F)), 0x0400);  // up to the first normal
  EXPECT_EQ(kF16.rounded(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(kF16.rounded(-std::numeric_limits<float>::denorm_min()), 0x8000);
}

TEST(ConvertBf16, SubnormalsAndTheLargest) {
  EXPECT_EQ(kBf16.rounded(std::bit_cast<float>(0x00008000U)), 0);  // tie: even
  EXPECT_EQ(kBf16.rounded(std::bit_cast<float>(0x00008001U)), 1);
  EXPECT_EQ(kBf16.rounded(std::bit_cast<float>(0x00018000U)), 2);
  bool finite = true;
  EXPECT_EQ(kBf16.rounded(std::bit_cast<float>(0x7F7F7FFFU), &finite), 0x7F7F);
  EXPECT_TRUE(finite);
  EXPECT_EQ(kBf16.rounded(std::bit_cast<float>(0x7F7F8000U), &finite), 0x7F80);
  EXPECT_FALSE(finite);
}

TEST(ConvertF32, IsACopy) {
  const std::vector<float> values = {0.0F, -0.0F, 1.5F, std::numeric_limits<float>::max(),
                                     std::numeric_limits<float>::denorm_min()};
  std::vector<std::byte> bits(values.size() * 4);
  EXPECT_TRUE(round_to(DType::f32, values, bits.data()));
  std::vector<float> back(values.size());
  widen(DType::f32, bits.data(), back);
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(back[i]), std::bit_cast<std::uint32_t>(values[i]));
  }
  for (const float x : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    EXPECT_FALSE(round_to(DType::f32, {&x, 1}, bits.data()));
  }
}

TEST(ConvertRows, BytesNeedNoAlignment) {
  const std::vector<float> values = {1, -2, 0.5F, 1024};
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (std::size_t offset = 0; offset < 8; ++offset) {
      std::vector<std::byte> bytes(64);
      EXPECT_TRUE(round_to(dtype, values, bytes.data() + offset));
      std::vector<float> back(values.size());
      widen(dtype, bytes.data() + offset, back);
      EXPECT_EQ(back, values);
    }
  }
}

TEST(DTypeNames, RoundTrip) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    EXPECT_EQ(dtype_from_name(name_of(dtype)), dtype);
  }
  EXPECT_EQ(dtype_from_name("fp16"), std::nullopt);
  EXPECT_EQ(bytes_of(DType::f32), 4U);
  EXPECT_EQ(bytes_of(DType::bf16), 2U);
}

}  // namespace
}  // namespace powerprefill
