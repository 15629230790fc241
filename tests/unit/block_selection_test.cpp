#include "partition/block_selection.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kv/layer_kv.hpp"
#include "layers/block_attention.hpp"
#include "support/attention_reference.hpp"

namespace powerprefill {
namespace {

using Blocks = std::vector<std::int64_t>;

TEST(BlockSelection, OfAPattern) {
  const auto power = make_pattern({.name = "power", .window = 2, .sink = 1});
  const Partition partition = Partition::contiguous(8 * 4, 4, 2, 1);
  const BlockSelection second = BlockSelection::by_pattern(*power, partition, 1);
  EXPECT_EQ(second.groups(), 1);
  EXPECT_EQ(second.blocks(), 4);
  EXPECT_EQ(second.keys(0, 0), (Blocks{4, 3, 2, 0}));
  EXPECT_EQ(second.keys(0, 3), (Blocks{7, 6, 5, 3, 0}));
  EXPECT_EQ(second.needed_below(4), (Blocks{3, 2, 1, 0}));
  EXPECT_EQ(second.needed_below(0), Blocks{});
}

// One rank, 4 blocks of 8 tokens, 4 key/value heads of 2 query heads each: the heads of a group see
// the blocks that were chosen for them, and no others.
class ChosenBlocks : public testing::Test {
 protected:
  static constexpr std::int64_t kBlock = 8;
  static constexpr std::int64_t kBlocks = 4;
  static constexpr std::int64_t kHeads = 8;
  static constexpr std::int64_t kKvHeads = 4;
  static constexpr std::int64_t kDim = 6;
  static constexpr std::int64_t kTokens = kBlock * kBlocks;

  static std::vector<float> random_values(std::int64_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = normal(random);
    return values;
  }

  std::vector<float> attend(const BlockSelection& selection) {
    const KvShape shape = {kBlock, kKvHeads, kDim, DType::f32};
    const Partition partition = Partition::contiguous(kTokens, kBlock, 1, 1);
    BlockAttention attention(partition, 0, {kHeads / kKvHeads, kBlock, kDim}, shape, 2);
    ThreadPool pool(2);
    KvBlocks blocks(shape, kBlocks);
    const KvSpan all = blocks.span(0, kBlocks);
    std::memcpy(all.key.data(), key_.data(), all.key.size());
    std::memcpy(all.value.data(), value_.data(), all.value.size());
    for (std::int64_t t = 0; t < kTokens; ++t) {
      for (std::int64_t h = 0; h < kHeads; ++h) {
        std::memcpy(attention.query(h, t / kBlock, t % kBlock),
                    query_.data() + (t * kHeads + h) * kDim, kDim * sizeof(float));
      }
    }
    std::vector<KvBlockView> views;
    for (std::int64_t b = 0; b < kBlocks; ++b) views.push_back(blocks.view(b));
    attention.begin(pool, selection);
    attention.advance(
        pool, [&](std::int64_t block) { return &views[static_cast<std::size_t>(block)]; }, [] {});
    EXPECT_TRUE(attention.is_done());
    pairs_ = attention.pairs();
    std::vector<float> out(query_.size());
    for (std::int64_t t = 0; t < kTokens; ++t) {
      for (std::int64_t h = 0; h < kHeads; ++h) {
        attention.read_result(h, t / kBlock, t % kBlock, out.data() + (t * kHeads + h) * kDim);
      }
    }
    return out;
  }

  std::vector<float> query_ = random_values(kTokens * kHeads * kDim, 1);    // (T, H, D)
  std::vector<float> key_ = random_values(kTokens * kKvHeads * kDim, 2);    // (T, G, D)
  std::vector<float> value_ = random_values(kTokens * kKvHeads * kDim, 3);  // (T, G, D)
  std::int64_t pairs_ = 0;
};

TEST_F(ChosenBlocks, ByGroupsOfHeads) {
  // By group and query block, as keys might have chosen them.
  const std::vector<std::vector<Blocks>> chosen = {{{0}, {1, 0}, {2}, {3, 1}},
                                                   {{0}, {1}, {2, 1, 0}, {3, 2, 0}}};
  BlockSelection selection(2, kBlocks);
  for (std::int64_t group : {0, 1}) {
    for (std::int64_t b = 0; b < kBlocks; ++b) {
      selection.keys(group, b) =
          chosen[static_cast<std::size_t>(group)][static_cast<std::size_t>(b)];
    }
  }
  const std::vector<float> out = attend(selection);
  EXPECT_EQ(pairs_, (6 + 8) / 2) << "of a head on average";
  for (std::int64_t group : {0, 1}) {
    const auto attends = [&](std::int64_t query, std::int64_t block) {
      const Blocks& keys = chosen[static_cast<std::size_t>(group)][static_cast<std::size_t>(query)];
      return std::find(keys.begin(), keys.end(), block) != keys.end();
    };
    const ReferenceResult right = attention_reference({kTokens, kHeads, kKvHeads, kDim, kBlock},
                                                      query_, key_, value_, attends);
    for (std::int64_t t = 0; t < kTokens; ++t) {
      for (std::int64_t h = group * kHeads / 2; h < (group + 1) * kHeads / 2; ++h) {
        for (std::int64_t i = 0; i < kDim; ++i) {
          const auto at = static_cast<std::size_t>((t * kHeads + h) * kDim + i);
          EXPECT_LE(std::abs(out[at] - right.out[at]), right.bound[at])
              << "token " << t << " head " << h;
        }
      }
    }
  }
  // The blocks that another rank would be asked for.
  EXPECT_EQ(selection.needed_below(3), (Blocks{2, 1, 0}));
}

}  // namespace
}  // namespace powerprefill
