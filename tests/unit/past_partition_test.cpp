// Partitions, exchange plans and local rows of a chunk that has a past.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "layers/local_rows.hpp"
#include "math/linear/linear.hpp"
#include "partition/exchange_plan.hpp"
#include "partition/partition.hpp"
#include "plan/memory_plan.hpp"
#include "powerprefill/pattern.hpp"

namespace powerprefill {
namespace {

struct Case {
  TokenRange tokens;
  std::int64_t block;
  int ranks;
  std::int64_t unit;
  bool zigzag;
  Partition partition() const {
    return zigzag ? Partition::zigzag(tokens, block, ranks, unit)
                  : Partition::contiguous(tokens, block, ranks, unit);
  }
};

std::vector<Case> random_cases(int count) {
  std::mt19937 random(7);
  const auto pick = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  std::vector<Case> cases;
  for (int i = 0; i < count; ++i) {
    const std::int64_t block = std::int64_t{1} << pick(2, 7);
    const std::int64_t begin = pick(0, 1) == 0 ? pick(0, 40) * block : pick(0, 5000);
    cases.push_back({{begin, begin + pick(1, 4000)},
                     block,
                     static_cast<int>(pick(1, 7)),
                     std::max<std::int64_t>(1, kTileTokens / block),
                     pick(0, 1) == 1});
  }
  return cases;
}

TEST(PastPartition, OwnsTheBlocksOfTheChunkOnceAndNoOthers) {
  for (const Case& c : random_cases(400)) {
    const Partition p = c.partition();
    EXPECT_EQ(p.first_block(), c.tokens.begin / c.block);
    EXPECT_EQ(p.end_block(), (c.tokens.end + c.block - 1) / c.block);
    std::int64_t next = p.first_block();
    for (const Partition::Piece& piece : p.pieces()) {
      EXPECT_EQ(piece.blocks.first.value, next);
      next = piece.blocks.end();
    }
    EXPECT_EQ(next, p.end_block());
    std::int64_t tokens = 0;
    for (int r = 0; r < c.ranks; ++r) tokens += p.tokens_of(r);
    EXPECT_EQ(tokens, c.tokens.count());
    EXPECT_EQ(p.first_new_token(GlobalBlock{p.first_block()}), c.tokens.begin);
  }
}

TEST(PastPartition, CutsAtMultiplesOfTheUnitOfTheWholePrompt) {
  for (const Case& c : random_cases(400)) {
    const Partition p = c.partition();
    const int pieces = c.ranks * (c.zigzag ? 2 : 1);
    if (p.end_block() - p.first_block() < (4 * pieces + 1) * c.unit) continue;
    for (const Partition::Piece& piece : p.pieces()) {
      if (piece.blocks.first.value == p.first_block()) continue;
      EXPECT_EQ(piece.blocks.first.value % c.unit, 0);
    }
  }
}

TEST(PastPartition, RowsFollowThePositions) {
  for (const Case& c : random_cases(100)) {
    const Partition p = c.partition();
    for (int r = 0; r < c.ranks; ++r) {
      const LocalRows rows(p, r);
      EXPECT_EQ(rows.tokens(), p.tokens_of(r));
      std::int64_t tokens = 0;
      for (std::int64_t tile = 0; tile < rows.tiles(); ++tile) {
        const LocalRows::TileTokens owned = rows.tokens_of_tile(tile);
        for (std::int64_t row = owned.begin_row; row < owned.end_row; ++row, ++tokens) {
          const std::int64_t position = owned.first_position + row - owned.begin_row;
          const GlobalBlock block{position / c.block};
          EXPECT_GE(position, c.tokens.begin);
          EXPECT_EQ(row % kTileTokens, position % kTileTokens);
          EXPECT_EQ(p.owner(block), r);
          EXPECT_EQ(owned.first_block_row + row - owned.begin_row,
                    p.local(block).value * c.block + position % c.block);
        }
      }
      EXPECT_EQ(tokens, p.tokens_of(r));
    }
  }
}

TEST(PastPartition, ExchangesNothingOfThePast) {
  for (const Case& c : random_cases(150)) {
    const Partition p = c.partition();
    for (const char* name : {"power", "full", "sliding"}) {
      const auto pattern = make_pattern(default_spec(name));
      for (int r = 0; r < c.ranks; ++r) {
        std::set<std::int64_t> received;
        const ExchangePlan plan = make_exchange_plan(*pattern, p, r);
        const auto take = [&](const Share& share) {
          for (const BlockRange& range : share.ranges) {
            for (std::int64_t b = range.first.value; b < range.end(); ++b) received.insert(b);
          }
        };
        for (const Share& share : plan.receives) take(share);
        for (const SinkTree& tree : plan.sinks) {
          if (tree.parent >= 0) take(tree.blocks);
        }
        for (const BlockRange& range : p.ranges_of(r)) {
          for (std::int64_t q = range.first.value; q < range.end(); ++q) {
            for (const std::int64_t key : pattern->key_blocks(q)) {
              if (key < p.first_block()) continue;
              EXPECT_TRUE(p.owner(GlobalBlock{key}) == r || received.count(key) == 1);
            }
          }
        }
        for (const std::int64_t b : received) EXPECT_GE(b, p.first_block());
      }
    }
  }
}

ModelConfig small_config() {
  ModelConfig config;
  config.hidden = 896;
  config.heads = 14;
  config.kv_heads = 2;
  config.head_dim = 64;
  config.feed_forward = 4864;
  config.layers = 24;
  return config;
}

TEST(MemoryPlan, ChunksFitTheBudgetAndCoverThePrompt) {
  const ModelConfig config = small_config();
  const KvShape kv = {256, 2, 64, DType::f32};
  const auto chunk = [&](std::int64_t tokens, int ranks, std::int64_t budget) {
    return default_chunk(config, kv, {.tokens = tokens, .ranks = ranks, .threads = 2}, budget);
  };
  EXPECT_EQ(chunk(1, 1, std::int64_t{1} << 40), 256);
  EXPECT_EQ(chunk(100000, 1, std::int64_t{1} << 40), 100096);
  EXPECT_EQ(chunk(1 << 20, 1, std::int64_t{1} << 40), kLargestChunk);
  EXPECT_EQ(chunk(1 << 20, 32, std::int64_t{1} << 40), 32 * kLargestShare);
  EXPECT_EQ(chunk(1 << 20, 1, 0), 256);  // the least that works
  for (const std::int64_t budget : {std::int64_t{200} << 20, std::int64_t{1} << 30}) {
    const std::int64_t tokens = chunk(1 << 20, 4, budget);
    EXPECT_EQ(tokens % 256, 0);
    const ChunkShape shape = {.tokens = tokens, .prompt = 1 << 20, .ranks = 4, .threads = 2};
    EXPECT_LE(rank_memory(config, kv, shape).total(), budget);
  }
}

}  // namespace
}  // namespace powerprefill
