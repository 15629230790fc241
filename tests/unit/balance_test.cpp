#include "partition/balance.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "partition/exchange_plan.hpp"

namespace powerprefill {
namespace {

constexpr int kRanks = 8;

Balance contiguous(const std::string& name, std::int64_t blocks) {
  return balance_of(*make_pattern(default_spec(name)), Partition::contiguous(blocks, 1, kRanks, 1));
}

TEST(Balance, PowerIsNearlyEvenOnContiguousShares) {
  EXPECT_NEAR(contiguous("power", 64).max_over_mean(), 1.147, 5e-4);
  EXPECT_NEAR(contiguous("power", 512).max_over_mean(), 1.093, 5e-4);
  EXPECT_NEAR(contiguous("power", 4096).max_over_mean(), 1.072, 5e-4);
}

TEST(Balance, FullNeedsZigzag) {
  EXPECT_NEAR(contiguous("full", 512).max_over_mean(), 1.875, 5e-3);
  const auto full = make_pattern(default_spec("full"));
  EXPECT_LE(balance_of(*full, Partition::zigzag(512, 1, kRanks, 1)).max_over_mean(), 1.01);
}

TEST(Balance, CountsWhatEachRankReceives) {
  // 64 blocks a rank: rank r sees the ranks r - 1, r - 2 and r - 4, and the sink, if
  // rank 0 is none of them.
  const Balance power = contiguous("power", 512);
  EXPECT_EQ(power.received, (std::vector<std::int64_t>{0, 64, 128, 129, 192, 193, 193, 193}));
  EXPECT_EQ(power.max_received(), 193);
  const Balance full = contiguous("full", 512);
  for (int rank = 0; rank < kRanks; ++rank) {
    EXPECT_EQ(full.received[static_cast<std::size_t>(rank)], 64 * rank);
    EXPECT_EQ(full.partners[static_cast<std::size_t>(rank)], rank);
  }
  EXPECT_EQ(full.max_received(), 448);
  EXPECT_EQ(full.total_received(), 64 * 28);
  EXPECT_EQ(full.max_partners(), 7);
}

TEST(Balance, IsThatOfTheExchangePlans) {
  for (const std::string& name : pattern_names()) {
    const auto pattern = make_pattern(default_spec(name));
    for (const Partition& partition :
         {Partition::contiguous(150, 1, 7, 1), Partition::zigzag(150, 1, 7, 1),
          Partition::contiguous(3, 1, 5, 1), Partition::contiguous(1000, 16, 3, 4)}) {
      const Balance balance = balance_of(*pattern, partition);
      std::int64_t pairs = 0;
      for (int rank = 0; rank < partition.ranks(); ++rank) {
        const auto r = static_cast<std::size_t>(rank);
        const ExchangePlan plan = make_exchange_plan(*pattern, partition, rank);
        std::set<int> partners;
        for (const Share& share : plan.receives) partners.insert(share.peer);
        for (const SinkTree& tree : plan.sinks) {
          if (tree.parent >= 0) partners.insert(tree.parent);
        }
        EXPECT_EQ(balance.received[r], plan.received_blocks()) << name;
        EXPECT_EQ(balance.partners[r], static_cast<std::int64_t>(partners.size())) << name;
      }
      for (std::int64_t i = 0; i < partition.end_block(); ++i) {
        for (std::int64_t j = 0; j <= i; ++j) pairs += pattern->attends(i, j) ? 1 : 0;
      }
      EXPECT_EQ(std::accumulate(balance.pairs.begin(), balance.pairs.end(), std::int64_t{0}), pairs)
          << name;
    }
  }
}

}  // namespace
}  // namespace powerprefill
