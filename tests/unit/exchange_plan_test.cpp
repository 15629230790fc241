#include "partition/exchange_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <random>
#include <set>

namespace powerprefill {
namespace {

struct Job {
  PatternSpec spec;
  std::int64_t tokens;
  std::int64_t block;
  int ranks;
  std::int64_t unit;
};

std::ostream& operator<<(std::ostream& out, const Job& job) {
  return out << job.spec.name << " window " << job.spec.window << " sink " << job.spec.sink
             << " tokens " << job.tokens << " block " << job.block << " ranks " << job.ranks
             << " unit " << job.unit;
}

// The plans of all ranks of a job, and what each rank needs.
class Plans {
 public:
  explicit Plans(const Job& job)
      : pattern(make_pattern(job.spec)),
        partition(Partition::contiguous(job.tokens, job.block, job.ranks, job.unit)) {
    for (int r = 0; r < job.ranks; ++r) {
      of.push_back(make_exchange_plan(*pattern, partition, r));
      std::set<std::int64_t> needs;
      for (const BlockRange& range : partition.ranges_of(r)) {
        for (std::int64_t i = range.first.value; i < range.end(); ++i) {
          for (std::int64_t j = 0; j <= i; ++j) {
            if (pattern->attends(i, j) && !range.contains(GlobalBlock{j})) needs.insert(j);
          }
        }
      }
      needed.push_back(needs);
    }
  }

  std::shared_ptr<const Pattern> pattern;
  Partition partition;
  std::vector<ExchangePlan> of;
  std::vector<std::set<std::int64_t>> needed;
};

// The blocks in the order of the ranges, each range ascending; ranges must descend without
// touching.
void collect(const std::vector<BlockRange>& ranges, std::vector<std::int64_t>& blocks) {
  for (std::size_t n = 0; n < ranges.size(); ++n) {
    ASSERT_GT(ranges[n].count, 0);
    if (n > 0) {
      ASSERT_LT(ranges[n].end(), ranges[n - 1].first.value);
    }
    for (std::int64_t b = ranges[n].first.value; b < ranges[n].end(); ++b) blocks.push_back(b);
  }
}

// (a), (b): exactly the needed blocks arrive, each once, from their owner or down its tree.
void expect_arrivals(const Plans& plans, int rank) {
  const ExchangePlan& plan = plans.of[static_cast<std::size_t>(rank)];
  std::vector<std::int64_t> arrived;
  const auto arrives = [&](const Share& share) {
    std::vector<std::int64_t> blocks;
    ASSERT_NO_FATAL_FAILURE(collect(share.ranges, blocks));
    ASSERT_FALSE(blocks.empty());
    ASSERT_EQ(share.blocks(), static_cast<std::int64_t>(blocks.size()));
    for (const std::int64_t b : blocks) {
      ASSERT_EQ(plans.partition.owner(GlobalBlock{b}), share.peer) << "block " << b;
      arrived.push_back(b);
    }
  };
  for (const Share& share : plan.receives) ASSERT_NO_FATAL_FAILURE(arrives(share));
  for (const SinkTree& tree : plan.sinks) {
    if (tree.parent < 0) continue;
    ASSERT_NO_FATAL_FAILURE(arrives(tree.blocks));
  }
  ASSERT_EQ(plan.received_blocks(), static_cast<std::int64_t>(arrived.size()));
  std::sort(arrived.begin(), arrived.end());
  const auto& needed = plans.needed[static_cast<std::size_t>(rank)];
  ASSERT_EQ(arrived, std::vector<std::int64_t>(needed.begin(), needed.end())) << "rank " << rank;
}

// (c), shares: what r sends to q is what q receives from r; the orders are those documented.
void expect_shares_match(const Plans& plans) {
  std::map<std::pair<int, int>, Share> sent;
  std::size_t received = 0;
  for (int r = 0; r < plans.partition.ranks(); ++r) {
    int last_peer = -1;
    for (const Share& share : plans.of[static_cast<std::size_t>(r)].sends) {
      ASSERT_GT(share.peer, last_peer);  // ascending, so one share per pair
      last_peer = share.peer;
      ASSERT_NE(share.peer, r);
      sent[{r, share.peer}] = share;
    }
  }
  for (int r = 0; r < plans.partition.ranks(); ++r) {
    std::int64_t last_first = plans.partition.blocks();
    for (const Share& share : plans.of[static_cast<std::size_t>(r)].receives) {
      ASSERT_LT(share.ranges.front().first.value, last_first);
      last_first = share.ranges.front().first.value;
      const auto at = sent.find({share.peer, r});
      ASSERT_NE(at, sent.end()) << share.peer << " sends nothing to " << r;
      ASSERT_EQ(at->second.ranges, share.ranges);
      ++received;
    }
  }
  ASSERT_EQ(received, sent.size());
}

// (c), trees: parents and children agree, every member hangs below the owner, at a small depth.
void expect_trees_match(const Plans& plans) {
  const int ranks = plans.partition.ranks();
  std::map<int, std::map<int, SinkTree>> trees;  // by owner, then by member
  for (int r = 0; r < ranks; ++r) {
    std::int64_t last_first = plans.partition.blocks();
    for (const SinkTree& tree : plans.of[static_cast<std::size_t>(r)].sinks) {
      ASSERT_LT(tree.blocks.ranges.front().first.value, last_first);
      last_first = tree.blocks.ranges.front().first.value;
      ASSERT_TRUE(trees[tree.blocks.peer].emplace(r, tree).second);
    }
  }
  for (const auto& [owner, members] : trees) {
    ASSERT_TRUE(members.contains(owner));
    std::size_t edges = 0;
    for (const auto& [r, tree] : members) {
      ASSERT_EQ(tree.blocks, members.at(owner).blocks);
      ASSERT_EQ(tree.parent < 0, r == owner);
      std::set<int> children(tree.children.begin(), tree.children.end());
      ASSERT_EQ(children.size(), tree.children.size());
      edges += children.size();
      for (const int child : children) {
        ASSERT_TRUE(members.contains(child));
        ASSERT_EQ(members.at(child).parent, r);
      }
      int depth = 0;
      for (int at = r; at != owner; at = members.at(at).parent) {
        ASSERT_LE(++depth, std::bit_width(static_cast<unsigned>(ranks - 1)) + 1);
        ASSERT_TRUE(members.contains(members.at(at).parent));
      }
    }
    ASSERT_EQ(edges + 1, members.size());
  }
}

void expect_sound(const Job& job) {
  SCOPED_TRACE(testing::Message() << job);
  const Plans plans(job);
  for (int r = 0; r < job.ranks; ++r) ASSERT_NO_FATAL_FAILURE(expect_arrivals(plans, r));
  ASSERT_NO_FATAL_FAILURE(expect_shares_match(plans));
  ASSERT_NO_FATAL_FAILURE(expect_trees_match(plans));
}

TEST(ExchangePlan, FixedJobs) {
  for (int ranks = 1; ranks <= 13; ++ranks) {
    for (const char* name : {"power", "sliding", "full"}) {
      for (const std::int64_t tokens : {1, 15, 16, 17, 100, 16 * 13, 16 * 64 - 3, 16 * 100 + 1}) {
        for (const std::int64_t unit : {1, 4}) {
          ASSERT_NO_FATAL_FAILURE(
              expect_sound({{.name = name, .window = 5, .sink = 1}, tokens, 16, ranks, unit}));
        }
      }
    }
  }
}

TEST(ExchangePlan, RandomJobs) {
  std::mt19937_64 random(20250307);
  const auto draw = [&](std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(high - low + 1));
  };
  for (int ranks = 1; ranks <= 13; ++ranks) {
    for (const char* name : {"power", "sliding", "full"}) {
      for (int n = 0; n < 12; ++n) {
        const std::int64_t block = draw(1, 20);
        const std::int64_t window = n % 3 == 0 ? draw(1, 120) : draw(1, 6);
        const std::int64_t sink = n % 2 == 0 ? draw(0, 3) : draw(0, 40);
        ASSERT_NO_FATAL_FAILURE(expect_sound({{.name = name, .window = window, .sink = sink},
                                              draw(1, 110 * block),
                                              block,
                                              ranks,
                                              draw(1, 4)}));
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

TEST(ExchangePlan, OneRankNeedsNobody) {
  const Plans plans({{.name = "power", .window = 5, .sink = 3}, 1000, 16, 1, 1});
  EXPECT_TRUE(plans.of[0].receives.empty());
  EXPECT_TRUE(plans.of[0].sends.empty());
  EXPECT_TRUE(plans.of[0].sinks.empty());
}

}  // namespace
}  // namespace powerprefill
