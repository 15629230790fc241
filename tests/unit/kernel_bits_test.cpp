// The bits that our kernels compute, recorded. They are part of what caches and ranks must have in
// common: whoever changes them raises the family's revision (math/kernel_revisions.hpp), and
// records the new bits here.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/hash.hpp"
#include "base/thread_pool.hpp"
#include "math/attention/attention.hpp"
#include "math/attention/bf16_attention.hpp"
#include "math/attention/row_attention.hpp"
#include "math/kernel_revisions.hpp"
#include "math/linear/compute.hpp"
#include "math/linear/linear.hpp"
#include "math/rows/convert.hpp"
#include "math/rows/row_ops.hpp"
#include "support/simd_targets.hpp"

namespace powerprefill {
namespace {

using Bits = std::uint64_t;

// Evenly in [-1, 1), and the same on any system: no function of libm has a part in them.
std::vector<float> even_values(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) {
    value = static_cast<float>(random() >> 8) * 0x1.0p-23F - 1.0F;
  }
  return values;
}

template <typename T>
void add(Hasher& hasher, const std::vector<T>& values) {
  hasher.update(std::as_bytes(std::span(values)));
}

// Lengths that are no multiple of any vector.
Bits rows_bits() {
  Hasher hasher;
  constexpr std::int64_t n = 187;
  const std::vector<float> x = even_values(n, 1);
  const std::vector<float> weight = even_values(n, 2);
  std::vector<float> out(n);
  rms_norm(x.data(), weight.data(), 1e-6F, n, out.data());
  add(hasher, out);
  out = x;
  silu_multiply(out.data(), weight.data(), n);
  add(hasher, out);
  powerprefill::add(out.data(), weight.data(), n);
  add(hasher, out);
  std::vector<float> turned(46);
  const std::vector<float> angles = even_values(23, 3);
  std::vector<float> cosine(23);
  std::vector<float> sine(23);
  for (std::size_t i = 0; i < angles.size(); ++i) {  // near enough to a rotation, and no libm
    cosine[i] = 1 - angles[i] * angles[i] / 2;
    sine[i] = angles[i];
  }
  rotate_pairs(x.data(), cosine.data(), sine.data(), 46, turned.data());
  add(hasher, turned);
  add(hasher, std::vector<float>{dot(x.data(), weight.data(), n)});
  std::vector<float> scores = x;
  float maximum = -std::numeric_limits<float>::infinity();
  float sum = 0;
  for (const std::int64_t count : {n - 5, n}) {
    merge_softmax_row(scores.data(), count, n, maximum, sum, out.data(), n);
    add(hasher, scores);
    add(hasher, out);
    add(hasher, std::vector<float>{maximum, sum});
    scores = weight;
  }
  std::vector<std::uint16_t> halves(n);
  round_to_bf16(x.data(), n, halves.data());
  add(hasher, halves);
  return hasher.digest();
}

// Single rows, whose sums are ours; tiles go through BLAS and oneDNN.
Bits linear_bits() {
  ThreadPool pool(1);
  constexpr std::int64_t inputs = 203;
  constexpr std::int64_t outputs = 37;
  const std::vector<float> weight = even_values(inputs * outputs, 4);
  const std::vector<float> bias = even_values(outputs, 5);
  const std::vector<float> x = even_values(inputs, 6);
  std::vector<float> y(outputs);
  apply_linear_row(pool, {weight, bias, inputs, outputs}, x.data(), 0, outputs, y.data());
  Hasher hasher;
  add(hasher, y);
  return hasher.digest();
}

Bits attention_bits() {
  Hasher hasher;
  for (const AttentionShape& shape :
       {AttentionShape{3, 40, 20}, AttentionShape{2, 300, 64}, AttentionShape{1, 16, 128}}) {
    const auto rows = static_cast<std::size_t>(shape.rows());
    const std::int64_t d = shape.head_dim;
    const std::vector<float> query = even_values(shape.rows() * d, 7);
    std::vector<float> maximum(rows, -std::numeric_limits<float>::infinity());
    std::vector<float> sum(rows, 0.0F);
    std::vector<float> out(query.size(), 0.0F);
    AttentionScratch scratch(shape);
    for (const bool diagonal : {true, false}) {
      const std::vector<float> key = even_values(shape.block * d, diagonal ? 8 : 9);
      const std::vector<float> value = even_values(shape.block * d, diagonal ? 10 : 11);
      merge_key_block(shape, {query.data(), maximum.data(), sum.data(), out.data()},
                      {key.data(), d}, {value.data(), d}, shape.block, diagonal, scratch);
    }
    add(hasher, out);
    add(hasher, sum);
  }
  return hasher.digest();
}

Bits bf16_attention_bits(Bf16Isa isa) {
  Hasher hasher;
  for (AttentionShape shape : {AttentionShape{3, 40, 20}, AttentionShape{2, 300, 64}}) {
    shape.compute = Compute::bf16;
    const std::int64_t rows = (shape.rows() + kBf16Rows - 1) / kBf16Rows * kBf16Rows;
    const std::int64_t columns = (shape.head_dim + kBf16Columns - 1) / kBf16Columns * kBf16Columns;
    std::vector<std::uint16_t> query(static_cast<std::size_t>(rows * columns), 0);
    const std::vector<float> random = even_values(shape.rows() * shape.head_dim, 12);
    for (std::int64_t r = 0; r < shape.rows(); ++r) {
      round_to_bf16(random.data() + r * shape.head_dim, shape.head_dim, query.data() + r * columns);
    }
    std::vector<float> maximum(static_cast<std::size_t>(rows),
                               -std::numeric_limits<float>::infinity());
    std::vector<float> sum(maximum.size(), 0.0F);
    std::vector<float> out(query.size(), 0.0F);
    Bf16Scratch scratch(shape);
    for (const bool diagonal : {true, false}) {
      std::vector<std::byte> rows_of[2];
      for (const int part : {0, 1}) {
        const std::vector<float> values = even_values(
            shape.block * shape.head_dim, static_cast<unsigned>(13 + part + (diagonal ? 0 : 2)));
        rows_of[part].resize(values.size() * 2);
        EXPECT_TRUE(round_to(DType::bf16, values, rows_of[part].data()));
      }
      merge_key_block_bf16(
          isa, shape,
          {.query = query.data(), .maximum = maximum.data(), .sum = sum.data(), .out = out.data()},
          {{DType::bf16, rows_of[0].data(), shape.head_dim * 2, shape.block},
           {DType::bf16, rows_of[1].data(), shape.head_dim * 2, shape.block}},
          diagonal, scratch);
    }
    add(hasher, out);
    add(hasher, sum);
  }
  return hasher.digest();
}

Bits row_attention_bits() {
  Hasher hasher;
  constexpr std::int64_t heads = 5;
  constexpr std::int64_t rows = 21;
  constexpr std::int64_t d = 44;
  const std::vector<float> query = even_values(heads * d, 17);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const auto bytes = static_cast<std::int64_t>(bytes_of(dtype));
    std::vector<std::byte> kv[2];
    for (const int part : {0, 1}) {
      kv[part].resize(static_cast<std::size_t>(rows * d * bytes));
      EXPECT_TRUE(round_to(dtype, even_values(rows * d, 18 + static_cast<unsigned>(part)),
                           kv[part].data()));
    }
    std::vector<float> scores(static_cast<std::size_t>(heads * rows));
    std::vector<float> out(static_cast<std::size_t>(heads * d), 0.0F);
    score_rows({dtype, kv[0].data(), d * bytes, rows}, query.data(), heads, d, 0.1F, scores.data(),
               rows);
    add_weighted_rows({dtype, kv[1].data(), d * bytes, rows}, scores.data(), rows, heads, d,
                      out.data());
    add(hasher, scores);
    add(hasher, out);
  }
  return hasher.digest();
}

struct Recorded {
  const char* family;
  const char* target;  // of Highway, or a Bf16Isa
  int revision;
  Bits bits;
};

// Other instruction sets add in other orders, so each has its own bits.
constexpr Recorded kRecorded[] = {
    {"rows", "AVX3", 1, 0xcb90c7496d80d884},
    {"linear", "AVX3", 1, 0x2adf0ef1c89065a6},
    {"attention", "AVX3", 1, 0xfa15be7ddc948140},
    {"row attention", "AVX3", 1, 0x63cb3fbdaa0d45f5},
    {"rows", "AVX2", 1, 0x844aab201a01db69},
    {"linear", "AVX2", 1, 0x5198565aef05e943},
    {"attention", "AVX2", 1, 0xe1a34838f19ba6a2},
    {"row attention", "AVX2", 1, 0xcee5349ec7d0218f},
    {"rows", "SSE4", 1, 0x798528122364737c},
    {"linear", "SSE4", 1, 0x2c62b31b45834052},
    {"attention", "SSE4", 1, 0x30b2d1088e97f5ae},
    {"row attention", "SSE4", 1, 0xec999155fda8b8b0},
    {"rows", "SCALAR", 1, 0xa14071369d0e6d8d},
    {"linear", "SCALAR", 1, 0x39f5bf7f93681242},
    {"attention", "SCALAR", 1, 0xb7dd51a640a7b8d9},
    {"row attention", "SCALAR", 1, 0xf11d57d0b8883db3},
    {"bf16 attention", "AVX512_BF16", 1, 0x5601396e39969843},
    {"bf16 attention", "AMX", 1, 0xfab62d529be1fb84},
};

// Fails where bits differ from those of the family's revision, and where a revision was raised and
// its bits were not recorded.
void expect_recorded(const std::string& family, const std::string& target, int revision,
                     Bits bits) {
  bool knows_target = false;
  for (const Recorded& one : kRecorded) {
    if (family != one.family || target != one.target) continue;
    knows_target = true;
    if (one.revision == revision) {
      EXPECT_EQ(bits, one.bits)
          << family << " on " << target << " computes other bits than its revision " << revision
          << " says: raise it in math/kernel_revisions.hpp, and record\n    {\"" << family
          << "\", \"" << target << "\", " << revision + 1 << ", 0x" << hex_of(bits) << "},";
      return;
    }
  }
  EXPECT_FALSE(knows_target) << "record the bits of the new revision:\n    {\"" << family
                             << "\", \"" << target << "\", " << revision << ", 0x" << hex_of(bits)
                             << "},";
  std::printf("not recorded: {\"%s\", \"%s\", %d, 0x%s},\n", family.c_str(), target.c_str(),
              revision, hex_of(bits).c_str());
}

TEST(KernelBits, AreThoseOfTheirRevision) {
  const auto seen = for_each_simd_target([](const std::string& target) {
    expect_recorded("rows", target, kRowsRevision, rows_bits());
    expect_recorded("linear", target, kLinearRevision, linear_bits());
    expect_recorded("attention", target, kAttentionRevision, attention_bits());
    expect_recorded("row attention", target, kRowAttentionRevision, row_attention_bits());
  });
  EXPECT_FALSE(seen.empty());
}

TEST(KernelBits, OfBf16AreThoseOfTheirRevision) {
  if (bf16_isa() == Bf16Isa::none) GTEST_SKIP() << "this CPU has no bf16 instructions";
  if (bf16_isa() == Bf16Isa::amx) {
    expect_recorded("bf16 attention", "AMX", kBf16AttentionRevision,
                    bf16_attention_bits(Bf16Isa::amx));
  }
  expect_recorded("bf16 attention", "AVX512_BF16", kBf16AttentionRevision,
                  bf16_attention_bits(Bf16Isa::avx512));
}

TEST(KernelBits, RevisionsArePartOfWhatRanksMustHaveInCommon) {
  EXPECT_NE(kernel_revisions().find("bf16 attention"), std::string::npos);
}

}  // namespace
}  // namespace powerprefill
