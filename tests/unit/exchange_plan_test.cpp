#include "partition/exchange_plan.hpp"

#include <gtest/gtest.h>

#include <bit>

#include "support/plan_checks.hpp"

namespace powerprefill {
namespace {

TEST(ExchangePlan, FixedJobs) {
  for (int ranks = 1; ranks <= 13; ++ranks) {
    for (const char* name : {"power", "sliding", "full"}) {
      for (const std::int64_t tokens : {1, 15, 16, 17, 100, 16 * 13, 16 * 64 - 3, 16 * 100 + 1}) {
        for (const std::int64_t unit : {1, 4}) {
          for (const bool zigzag : {false, true}) {
            ASSERT_NO_FATAL_FAILURE(expect_sound(
                {{.name = name, .window = 5, .sink = 1}, tokens, 16, ranks, unit, zigzag}));
          }
        }
      }
    }
  }
}

TEST(ExchangePlan, FewPartnersWithPowersOfTwo) {
  const Plans plans({{.name = "power", .window = 5, .sink = 1}, 64 * 256, 256, 8, 1});
  for (int r = 0; r < 8; ++r) {
    const ExchangePlan& plan = plans.of[static_cast<std::size_t>(r)];
    EXPECT_LE(plan.receives.size(), 3U);
    EXPECT_LE(plan.sends.size(), 3U);
    for (const Share& share : plan.receives) {
      EXPECT_TRUE(std::has_single_bit(static_cast<unsigned>(r - share.peer)))
          << r << " receives from " << share.peer;
    }
    ASSERT_EQ(plan.sinks.size(), 1U);
    EXPECT_EQ(plan.sinks.front().parent >= 0, r > 0);
  }
}

// The example in the header.
TEST(ExchangePlan, WorkedExample) {
  const Plans plans({{.name = "power", .window = 5, .sink = 1}, 32 * 256, 256, 4, 1});
  const ExchangePlan& plan = plans.of[3];
  const std::vector<Share> receives = {{2, {{GlobalBlock{16}, 8}}}, {1, {{GlobalBlock{8}, 8}}}};
  EXPECT_EQ(plan.receives, receives);
  EXPECT_TRUE(plan.sends.empty());
  ASSERT_EQ(plan.sinks.size(), 1U);
  EXPECT_EQ(plan.sinks[0].blocks, (Share{0, {{GlobalBlock{0}, 1}}}));
  EXPECT_EQ(plan.sinks[0].parent, 2);
  EXPECT_TRUE(plan.sinks[0].children.empty());
  EXPECT_EQ(plan.received_blocks(), 17);
  EXPECT_EQ(plans.of[0].sinks[0].children, (std::vector<int>{2, 1}));
  EXPECT_EQ(plans.of[0].received_blocks(), 0);
}

// P = 4, chunks of 2 blocks: rank 1 owns chunks 1 and 6 and receives chunks 5, 4, 3, 2, 0.
TEST(ExchangePlan, WorkedExampleOfAFullLayer) {
  const Plans plans({default_spec("full"), 16 * 16, 16, 4, 1, true});
  const std::vector<Share> receives = {{2, {{GlobalBlock{10}, 2}}},
                                       {3, {{GlobalBlock{8}, 2}}},
                                       {3, {{GlobalBlock{6}, 2}}},
                                       {2, {{GlobalBlock{4}, 2}}},
                                       {0, {{GlobalBlock{0}, 2}}}};
  EXPECT_EQ(plans.of[1].receives, receives);
  // To rank 0 both chunks, the late one first; to the others what lies before their late chunk.
  const std::vector<Share> sends = {{0, {{GlobalBlock{12}, 2}}},
                                    {0, {{GlobalBlock{2}, 2}}},
                                    {2, {{GlobalBlock{2}, 2}}},
                                    {3, {{GlobalBlock{2}, 2}}}};
  EXPECT_EQ(plans.of[1].sends, sends);
  EXPECT_TRUE(plans.of[1].sinks.empty());
}

// A sink beyond the first pieces makes a tree for each of them, the later one first.
TEST(ExchangePlan, SinkTreesOfSeveralPieces) {
  const Plans plans({{.name = "sliding", .window = 1, .sink = 5}, 16 * 16, 16, 4, 1, true});
  const ExchangePlan& plan = plans.of[3];  // chunks 3 and 4: blocks 6 to 9
  ASSERT_EQ(plan.sinks.size(), 3U);
  const std::vector<Share> shares = {
      {2, {{GlobalBlock{4}, 1}}}, {1, {{GlobalBlock{2}, 2}}}, {0, {{GlobalBlock{0}, 2}}}};
  for (std::size_t n = 0; n < 3; ++n) {
    EXPECT_EQ(plan.sinks[n].blocks, shares[n]);
    EXPECT_EQ(plan.sinks[n].piece, static_cast<int>(2 - n));
    EXPECT_GE(plan.sinks[n].parent, 0);
  }
  EXPECT_TRUE(plan.receives.empty());
  EXPECT_EQ(plan.received_blocks(), 5);
}

TEST(ExchangePlan, OneRankNeedsNobody) {
  for (const bool zigzag : {false, true}) {
    const Plans plans({{.name = "power", .window = 5, .sink = 3}, 1000, 16, 1, 1, zigzag});
    EXPECT_TRUE(plans.of[0].receives.empty());
    EXPECT_TRUE(plans.of[0].sends.empty());
    EXPECT_TRUE(plans.of[0].sinks.empty());
  }
}

}  // namespace
}  // namespace powerprefill
