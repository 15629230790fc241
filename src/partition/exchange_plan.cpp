#include "partition/exchange_plan.hpp"

#include <algorithm>
#include <functional>
#include <map>

namespace powerprefill {

namespace {

// Adds a block to ranges that are built in descending order.
void append(std::vector<BlockRange>& ranges, std::int64_t block) {
  if (!ranges.empty() && ranges.back().first.value == block + 1) {
    ranges.back().first.value = block;
    ++ranges.back().count;
  } else {
    ranges.push_back({GlobalBlock{block}, 1});
  }
}

// The owner of every block, looked up in O(1).
std::vector<int> owners_of(const Partition& partition) {
  std::vector<int> owners(static_cast<std::size_t>(partition.blocks()), -1);
  for (int r = 0; r < partition.ranks(); ++r) {
    for (const BlockRange& range : partition.ranges_of(r)) {
      std::fill_n(owners.begin() + range.first.value, range.count, r);
    }
  }
  return owners;
}

// needed[rank][block]: rank attends to the block and does not own it.
using Needs = std::vector<std::vector<char>>;

Needs all_needs(const Pattern& pattern, const Partition& partition, const std::vector<int>& owners) {
  Needs needed(static_cast<std::size_t>(partition.ranks()), std::vector<char>(owners.size(), 0));
  for (std::int64_t query = 0; query < partition.blocks(); ++query) {
    const int rank = owners[static_cast<std::size_t>(query)];
    for (const std::int64_t key : pattern.key_blocks(query)) {
      const auto k = static_cast<std::size_t>(key);
      if (owners[k] != rank) needed[static_cast<std::size_t>(rank)][k] = 1;
    }
  }
  return needed;
}

// The blocks of `needed` that `owner` has, as one share per owner.
std::map<int, Share> shares_by_owner(const std::vector<char>& needed,
                                     const std::vector<int>& owners) {
  std::map<int, Share> shares;
  for (std::size_t b = owners.size(); b-- > 0;) {
    if (needed[b] == 0) continue;
    Share& share = shares[owners[b]];
    share.peer = owners[b];
    append(share.ranges, static_cast<std::int64_t>(b));
  }
  return shares;
}

// Binomial tree over `members` (the root first): the parent of position p is p without its lowest
// set bit; the farthest child is served first, since it has the largest subtree.
SinkTree place_in_tree(const std::vector<int>& members, int rank) {
  SinkTree tree;
  const auto size = static_cast<std::int64_t>(members.size());
  const std::int64_t p = std::find(members.begin(), members.end(), rank) - members.begin();
  if (p > 0) tree.parent = members[static_cast<std::size_t>(p & (p - 1))];
  std::int64_t lowest = p == 0 ? size : (p & -p);
  std::int64_t step = 1;
  while (step * 2 < lowest) step *= 2;
  for (; step >= 1; step /= 2) {
    if (step < lowest && p + step < size) {
      tree.children.push_back(members[static_cast<std::size_t>(p + step)]);
    }
  }
  return tree;
}

}  // namespace

std::int64_t Share::blocks() const {
  std::int64_t count = 0;
  for (const BlockRange& range : ranges) count += range.count;
  return count;
}

std::int64_t ExchangePlan::received_blocks() const {
  std::int64_t count = 0;
  for (const Share& share : receives) count += share.blocks();
  for (const SinkTree& tree : sinks) count += tree.parent >= 0 ? tree.blocks.blocks() : 0;
  return count;
}

ExchangePlan make_exchange_plan(const Pattern& pattern, const Partition& partition, int rank) {
  const std::vector<int> owners = owners_of(partition);
  Needs needed = all_needs(pattern, partition, owners);

  // Sink blocks leave the shares: a rank that needs some sink blocks of an owner gets all of them.
  std::map<int, std::vector<BlockRange>, std::greater<>> sink_blocks;  // by owner
  for (std::int64_t b = std::min(pattern.sink(), partition.blocks()) - 1; b >= 0; --b) {
    append(sink_blocks[owners[static_cast<std::size_t>(b)]], b);
  }
  ExchangePlan plan;
  for (const auto& [owner, ranges] : sink_blocks) {
    std::vector<int> members = {owner};
    for (int r = 0; r < partition.ranks(); ++r) {
      bool needs_some = false;
      for (const BlockRange& range : ranges) {
        for (std::int64_t b = range.first.value; b < range.end(); ++b) {
          char& mark = needed[static_cast<std::size_t>(r)][static_cast<std::size_t>(b)];
          needs_some = needs_some || mark != 0;
          mark = 0;
        }
      }
      if (needs_some) members.push_back(r);
    }
    if (members.size() == 1 || std::find(members.begin(), members.end(), rank) == members.end()) {
      continue;
    }
    SinkTree tree = place_in_tree(members, rank);
    tree.blocks = {owner, ranges};
    plan.sinks.push_back(std::move(tree));
  }

  for (auto& [owner, share] : shares_by_owner(needed[static_cast<std::size_t>(rank)], owners)) {
    plan.receives.push_back(std::move(share));
  }
  std::sort(plan.receives.begin(), plan.receives.end(), [](const Share& a, const Share& b) {
    return a.ranges.front().first > b.ranges.front().first;
  });
  for (int r = 0; r < partition.ranks(); ++r) {
    Share send = {r, {}};
    for (std::size_t b = owners.size(); b-- > 0;) {
      if (owners[b] == rank && needed[static_cast<std::size_t>(r)][b] != 0) {
        append(send.ranges, static_cast<std::int64_t>(b));
      }
    }
    if (!send.ranges.empty()) plan.sends.push_back(std::move(send));
  }
  return plan;
}

}  // namespace powerprefill
