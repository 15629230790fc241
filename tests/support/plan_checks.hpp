// What has to hold for the exchange plans of all ranks together, for any pattern and partition.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <utility>
#include <vector>

#include "partition/exchange_plan.hpp"

namespace powerprefill {

struct PlanJob {
  PatternSpec spec;
  std::int64_t tokens;
  std::int64_t block;
  int ranks;
  std::int64_t unit;
  bool zigzag = false;
};

inline std::ostream& operator<<(std::ostream& out, const PlanJob& job) {
  return out << to_json(job.spec) << " tokens " << job.tokens << " block " << job.block << " ranks "
             << job.ranks << " unit " << job.unit << (job.zigzag ? " zigzag" : " contiguous");
}

// The plans of all ranks of a job, and what each rank needs from others.
class Plans {
 public:
  explicit Plans(const PlanJob& job)
      : pattern(make_pattern(job.spec)),
        partition(job.zigzag ? Partition::zigzag(job.tokens, job.block, job.ranks, job.unit)
                             : Partition::contiguous(job.tokens, job.block, job.ranks, job.unit)),
        needed(static_cast<std::size_t>(job.ranks)) {
    for (int r = 0; r < job.ranks; ++r) of.push_back(make_exchange_plan(*pattern, partition, r));
    for (std::int64_t b = 0; b < partition.end_block(); ++b) {
      owner.push_back(partition.owner(GlobalBlock{b}));
    }
    for (std::int64_t i = 0; i < partition.end_block(); ++i) {
      const int rank = owner[static_cast<std::size_t>(i)];
      for (std::int64_t j = 0; j <= i; ++j) {
        if (owner[static_cast<std::size_t>(j)] == rank || !pattern->attends(i, j)) continue;
        needed[static_cast<std::size_t>(rank)].insert(j);
      }
    }
  }

  const ExchangePlan& plan(int rank) const { return of[static_cast<std::size_t>(rank)]; }

  std::shared_ptr<const Pattern> pattern;
  Partition partition;
  std::vector<ExchangePlan> of;                // per rank
  std::vector<std::set<std::int64_t>> needed;  // per rank
  std::vector<int> owner;                      // per block
};

// The blocks of the ranges, which must descend without touching.
inline void collect(const std::vector<BlockRange>& ranges, std::vector<std::int64_t>& blocks) {
  for (std::size_t n = 0; n < ranges.size(); ++n) {
    ASSERT_GT(ranges[n].count, 0);
    if (n > 0) {
      ASSERT_LT(ranges[n].end(), ranges[n - 1].first.value);
    }
    for (std::int64_t b = ranges[n].first.value; b < ranges[n].end(); ++b) blocks.push_back(b);
  }
}

// Whether all blocks of the share are in one piece of the partition, which `owner` owns.
inline bool is_within_one_piece(const Partition& partition, const Share& share, int owner) {
  const auto pieces = partition.pieces();
  return std::any_of(pieces.begin(), pieces.end(), [&](const Partition::Piece& piece) {
    return piece.owner == owner && share.lowest() >= piece.blocks.first.value &&
           share.ranges.front().end() <= piece.blocks.end();
  });
}

// Exactly the needed blocks arrive, each once, from their owner or down its tree.
inline void expect_arrivals(const Plans& plans, int rank) {
  const ExchangePlan& plan = plans.plan(rank);
  std::vector<std::int64_t> arrived;
  const auto arrives = [&](const Share& share) {
    std::vector<std::int64_t> blocks;
    ASSERT_NO_FATAL_FAILURE(collect(share.ranges, blocks));
    ASSERT_FALSE(blocks.empty());
    ASSERT_EQ(share.blocks(), static_cast<std::int64_t>(blocks.size()));
    ASSERT_EQ(share.lowest(), *std::min_element(blocks.begin(), blocks.end()));
    ASSERT_TRUE(is_within_one_piece(plans.partition, share, share.peer)) << "rank " << rank;
    for (const std::int64_t b : blocks) {
      ASSERT_EQ(plans.owner[static_cast<std::size_t>(b)], share.peer) << "block " << b;
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

// What r sends to q is what q receives from r, in the same order; receives descend without overlap,
// and sends go by ascending peer.
inline void expect_shares_match(const Plans& plans) {
  using Pair = std::pair<int, int>;  // sender, receiver
  std::map<Pair, std::vector<Share>> sent;
  std::map<Pair, std::vector<Share>> received;
  for (int r = 0; r < plans.partition.ranks(); ++r) {
    int last_peer = -1;
    for (Share share : plans.plan(r).sends) {
      ASSERT_GE(share.peer, last_peer);
      ASSERT_NE(share.peer, r);
      last_peer = share.peer;
      ASSERT_TRUE(is_within_one_piece(plans.partition, share, r));
      sent[{r, std::exchange(share.peer, -1)}].push_back(std::move(share));
    }
    std::int64_t last_lowest = plans.partition.end_block();
    for (Share share : plans.plan(r).receives) {
      ASSERT_LE(share.ranges.front().end(), last_lowest) << "rank " << r;
      last_lowest = share.lowest();
      received[{std::exchange(share.peer, -1), r}].push_back(std::move(share));
    }
  }
  ASSERT_EQ(sent, received);
}

// Parents and children agree, every member hangs below the owner, at a small depth.
inline void expect_trees_match(const Plans& plans) {
  const int ranks = plans.partition.ranks();
  const auto pieces = plans.partition.pieces();
  std::map<int, std::map<int, SinkTree>> trees;  // by piece, then by member
  for (int r = 0; r < ranks; ++r) {
    std::int64_t last_first = plans.partition.end_block();
    for (const SinkTree& tree : plans.plan(r).sinks) {
      ASSERT_EQ(tree.blocks.ranges.size(), 1U);
      ASSERT_LT(tree.blocks.ranges.front().first.value, last_first);
      last_first = tree.blocks.ranges.front().first.value;
      ASSERT_TRUE(trees[tree.piece].emplace(r, tree).second);
    }
  }
  for (const auto& [piece, members] : trees) {
    const BlockRange& blocks = pieces.at(static_cast<std::size_t>(piece)).blocks;
    const int owner = pieces.at(static_cast<std::size_t>(piece)).owner;
    const std::int64_t end = std::min(plans.pattern->sink(), blocks.end());
    const Share all = {owner, {{blocks.first, end - blocks.first.value}}};
    ASSERT_TRUE(members.contains(owner));
    std::size_t edges = 0;
    for (const auto& [r, tree] : members) {
      ASSERT_EQ(tree.blocks, all);
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

inline void expect_sound(const PlanJob& job) {
  SCOPED_TRACE(testing::Message() << job);
  const Plans plans(job);
  for (int r = 0; r < job.ranks; ++r) ASSERT_NO_FATAL_FAILURE(expect_arrivals(plans, r));
  ASSERT_NO_FATAL_FAILURE(expect_shares_match(plans));
  ASSERT_NO_FATAL_FAILURE(expect_trees_match(plans));
}

}  // namespace powerprefill
