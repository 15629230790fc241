#include "math/attention/attention.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>

#include "powerprefill/pattern.hpp"
#include "support/attention_reference.hpp"
#include "support/random_values.hpp"

namespace powerprefill {
namespace {

// The softmax state of one stack of queries, with memory of its own.
struct Stack {
  explicit Stack(const AttentionShape& shape)
      : query(static_cast<std::size_t>(shape.rows() * shape.head_dim)),
        maximum(static_cast<std::size_t>(shape.rows()), -std::numeric_limits<float>::infinity()),
        sum(static_cast<std::size_t>(shape.rows()), 0.0F),
        out(query.size(), 0.0F) {}
  AttentionState state() { return {query.data(), maximum.data(), sum.data(), out.data()}; }

  // Whether a row's state has the same bits in both.
  bool has_same_row(const Stack& other, std::int64_t row, std::int64_t d) const {
    const auto at = static_cast<std::size_t>(row);
    const auto first = static_cast<std::size_t>(row * d);
    return std::memcmp(&maximum[at], &other.maximum[at], sizeof(float)) == 0 &&
           std::memcmp(&sum[at], &other.sum[at], sizeof(float)) == 0 &&
           std::memcmp(&out[first], &other.out[first], static_cast<std::size_t>(d) * 4) == 0;
  }

  std::vector<float> query;    // (H/G B, D)
  std::vector<float> maximum;  // (H/G B)
  std::vector<float> sum;      // (H/G B)
  std::vector<float> out;      // (H/G B, D)
};

void fill_with_nan(AttentionScratch& scratch) {
  for (AlignedBuffer<float>* buffer : {&scratch.scores, &scratch.key, &scratch.value}) {
    std::fill_n(buffer->data(), buffer->size(), std::numeric_limits<float>::quiet_NaN());
  }
}

// A prompt with two key/value heads; only the second takes part, so that rows are apart by 2 D.
class Prompt {
 public:
  Prompt(const AttentionShape& attention_shape, std::int64_t prompt_tokens)
      : shape(attention_shape),
        tokens(prompt_tokens),
        blocks((tokens + shape.block - 1) / shape.block),
        q(random_values(tokens * shape.group_heads * shape.head_dim, 1)),
        k(random_values(blocks * shape.block * ld(), 2)),
        v(random_values(blocks * shape.block * ld(), 3)) {
    use_one_blas_thread();
    fill_padding(0);
  }

  std::int64_t ld() const { return 2 * shape.head_dim; }
  std::int64_t present(std::int64_t block) const {
    return std::min(shape.block, tokens - block * shape.block);
  }
  MatrixView key(std::int64_t block) const { return view(k, block); }
  MatrixView value(std::int64_t block) const { return view(v, block); }

  // Rows beyond the prompt: zeros, or finite garbage.
  void fill_padding(float magnitude) {
    for (std::int64_t i = tokens * ld(); i < blocks * shape.block * ld(); ++i) {
      const float garbage = magnitude * static_cast<float>(i % 7 - 3);
      k[static_cast<std::size_t>(i)] = garbage;
      v[static_cast<std::size_t>(i)] = -garbage;
    }
  }

  Stack stack(std::int64_t block) const {
    Stack stack(shape);
    for (std::int64_t h = 0; h < shape.group_heads; ++h) {
      for (std::int64_t t = 0; t < present(block); ++t) {
        const std::int64_t token = block * shape.block + t;
        std::copy_n(q.begin() + (token * shape.group_heads + h) * shape.head_dim, shape.head_dim,
                    stack.query.begin() + (h * shape.block + t) * shape.head_dim);
      }
    }
    return stack;
  }

  void merge(Stack& stack, std::int64_t query_block, std::int64_t key_block,
             AttentionScratch& scratch) const {
    merge_key_block(shape, stack.state(), key(key_block), value(key_block), present(key_block),
                    query_block == key_block, scratch);
  }

  AttentionShape shape;
  std::int64_t tokens;
  std::int64_t blocks;
  std::vector<float> q;  // (T, H/G, D)
  std::vector<float> k;  // (blocks B, 2, D)
  std::vector<float> v;  // (blocks B, 2, D)

 private:
  MatrixView view(const std::vector<float>& rows, std::int64_t block) const {
    return {rows.data() + block * shape.block * ld() + shape.head_dim, ld()};
  }
};

// Block size, heads per group, head size.
class AttentionTest
    : public testing::TestWithParam<std::tuple<std::int64_t, std::int64_t, std::int64_t>> {
 protected:
  Prompt prompt() const {
    const auto [block, heads, d] = GetParam();
    const std::int64_t whole_blocks = block <= 96 ? 5 : 2;
    return Prompt({heads, block, d}, whole_blocks * block + block / 3 + (block > 1 ? 1 : 0));
  }
};

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionTest,
                         testing::Combine(testing::Values(1, 16, 32, 96, 256, 300),
                                          testing::Values(1, 3, 7), testing::Values(16, 64, 128)),
                         [](const auto& shape_info) {
                           return "block" + std::to_string(std::get<0>(shape_info.param)) +
                                  "_heads" + std::to_string(std::get<1>(shape_info.param)) +
                                  "_dim" + std::to_string(std::get<2>(shape_info.param));
                         });

TEST_P(AttentionTest, AgreesWithDoublePrecision) {
  const Prompt p = prompt();
  const std::int64_t d = p.shape.head_dim;
  const std::int64_t heads = p.shape.group_heads;
  const auto pattern = make_pattern({.name = "power", .window = 1, .sink = 0});
  std::vector<float> k;  // the head that takes part, (T, 1, D)
  std::vector<float> v;
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    k.insert(k.end(), p.k.begin() + t * p.ld() + d, p.k.begin() + (t + 1) * p.ld());
    v.insert(v.end(), p.v.begin() + t * p.ld() + d, p.v.begin() + (t + 1) * p.ld());
  }
  const ReferenceResult expected = attention_reference(
      {p.tokens, heads, 1, d, p.shape.block}, p.q, k, v,
      [&](std::int64_t i, std::int64_t j) { return pattern->attends(i, j); }, kKeyTile);

  AttentionScratch scratch(p.shape);
  for (std::int64_t i = 0; i < p.blocks; ++i) {
    Stack stack = p.stack(i);
    for (const std::int64_t j : pattern->key_blocks(i)) p.merge(stack, i, j, scratch);
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t t = 0; t < p.present(i); ++t) {
        const std::int64_t row = h * p.shape.block + t;
        for (std::int64_t e = 0; e < d; ++e) {
          const auto at = static_cast<std::size_t>(((i * p.shape.block + t) * heads + h) * d + e);
          const float found = stack.out[static_cast<std::size_t>(row * d + e)] /
                              stack.sum[static_cast<std::size_t>(row)];
          ASSERT_NEAR(static_cast<double>(found), expected.out[at], expected.bound[at])
              << "block " << i << " head " << h << " token " << t << " element " << e;
        }
      }
    }
  }
}

TEST_P(AttentionTest, PaddedKeysChangeNoBit) {
  Prompt p = prompt();
  const std::int64_t last = p.blocks - 1;
  AttentionScratch scratch(p.shape);
  Stack clean = p.stack(last);
  for (std::int64_t j = last; j >= 0; --j) p.merge(clean, last, j, scratch);
  for (const float magnitude : {1.0F, 1e18F}) {
    p.fill_padding(magnitude);
    Stack dirty = p.stack(last);
    for (std::int64_t j = last; j >= 0; --j) p.merge(dirty, last, j, scratch);
    for (std::int64_t row = 0; row < p.shape.rows(); ++row) {
      ASSERT_TRUE(clean.has_same_row(dirty, row, p.shape.head_dim))
          << "row " << row << " with garbage of " << magnitude;
    }
  }
}

// The ragged block as a key block that is not the diagonal, as for an appended chunk.
TEST_P(AttentionTest, PaddedKeysOffTheDiagonalChangeNoBit) {
  Prompt p = prompt();
  const std::int64_t last = p.blocks - 1;
  AttentionScratch scratch(p.shape);
  Stack clean = p.stack(0);
  merge_key_block(p.shape, clean.state(), p.key(last), p.value(last), p.present(last), false,
                  scratch);
  p.fill_padding(1e18F);
  Stack dirty = p.stack(0);
  merge_key_block(p.shape, dirty.state(), p.key(last), p.value(last), p.present(last), false,
                  scratch);
  for (std::int64_t row = 0; row < p.shape.rows(); ++row) {
    ASSERT_TRUE(clean.has_same_row(dirty, row, p.shape.head_dim)) << "row " << row;
  }
}

// Merges in one go, against merges with new scratch memory and a state that moved after each block.
TEST_P(AttentionTest, PausesBetweenBlocksChangeNoBit) {
  const Prompt p = prompt();
  const std::int64_t query_block = p.blocks - 1;
  AttentionScratch scratch(p.shape);
  Stack whole = p.stack(query_block);
  for (std::int64_t j = query_block; j >= 0; --j) p.merge(whole, query_block, j, scratch);
  Stack paused = p.stack(query_block);
  for (std::int64_t j = query_block; j >= 0; --j) {
    Stack elsewhere = paused;
    AttentionScratch fresh(p.shape);
    fill_with_nan(fresh);
    p.merge(elsewhere, query_block, j, fresh);
    paused = elsewhere;
  }
  for (std::int64_t row = 0; row < p.shape.rows(); ++row) {
    ASSERT_TRUE(whole.has_same_row(paused, row, p.shape.head_dim)) << "row " << row;
  }
}

// A row's bits depend on its own query and on the keys that it sees, not on later keys, on how many
// are present, or on the other queries.
TEST_P(AttentionTest, RowsDependOnWhatTheySeeOnly) {
  const Prompt p = prompt();
  const std::int64_t block = p.shape.block;
  const std::int64_t d = p.shape.head_dim;
  AttentionScratch scratch(p.shape);
  Stack whole = p.stack(0);
  p.merge(whole, 0, 0, scratch);
  for (const std::int64_t cut : {std::int64_t{1}, block / 2, block - 1}) {
    if (cut < 1) continue;
    Prompt cut_short = p;
    for (std::int64_t i = cut * p.ld(); i < block * p.ld(); ++i) {
      cut_short.k[static_cast<std::size_t>(i)] = 3;
      cut_short.v[static_cast<std::size_t>(i)] = -5e10F;
    }
    for (const std::int64_t present : {cut, block}) {
      Stack some = cut_short.stack(0);
      for (std::int64_t row = 0; row < p.shape.rows(); ++row) {
        if (row % block >= cut) std::fill_n(some.query.begin() + row * d, d, 0.0F);
      }
      merge_key_block(p.shape, some.state(), cut_short.key(0), cut_short.value(0), present, true,
                      scratch);
      for (std::int64_t row = 0; row < p.shape.rows(); ++row) {
        if (row % block >= cut) continue;
        ASSERT_TRUE(whole.has_same_row(some, row, d)) << "row " << row << " cut at " << cut;
      }
    }
  }
}

// The reference against attention written out by hand: three tokens, two heads on one key/value
// head.
TEST(AttentionReference, ASmallCaseByHand) {
  const std::vector<float> q = {1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1};
  const std::vector<float> k = {2, 0, 0, 2, 1, 1};
  const std::vector<float> v = {1, 10, 2, 20, 3, 30};
  const ReferenceShape shape = {.tokens = 3, .heads = 2, .kv_heads = 1, .head_dim = 2, .block = 1};
  const auto all = attention_reference(shape, q, k, v, [](auto, auto) { return true; });
  const double high = std::exp(2 / std::sqrt(2.0));
  const double middle = std::exp(1 / std::sqrt(2.0));
  EXPECT_DOUBLE_EQ(all.out[0], 1);
  EXPECT_DOUBLE_EQ(all.out[4], (high * 1 + 2) / (high + 1));  // token 1, head 0
  EXPECT_DOUBLE_EQ(all.out[6], (1 + high * 2) / (high + 1));  // token 1, head 1
  EXPECT_DOUBLE_EQ(all.out[9], 10 * (high + 2 + middle * 3) / (high + 1 + middle));  // token 2
  // Without key block 1.
  const auto some = attention_reference(shape, q, k, v, [](auto, auto j) { return j != 1; });
  EXPECT_DOUBLE_EQ(some.out[8], (high * 1 + middle * 3) / (high + middle));
  for (const double bound : all.bound) {
    EXPECT_GT(bound, 0);
    EXPECT_LT(bound, 1e-3);
  }
}

}  // namespace
}  // namespace powerprefill
