#include "partition/exchange_plan.hpp"

#include <algorithm>

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

// The piece of every block, looked up in O(1).
std::vector<int> piece_by_block(const std::vector<Partition::Piece>& pieces, std::int64_t blocks) {
  std::vector<int> piece_of(static_cast<std::size_t>(blocks), -1);  // stays -1 for the past
  for (std::size_t p = 0; p < pieces.size(); ++p) {
    std::fill_n(piece_of.begin() + pieces[p].blocks.first.value, pieces[p].blocks.count,
                static_cast<int>(p));
  }
  return piece_of;
}

// The blocks of `piece` that `needed` names, as a share with `peer`.
Share share_of(const std::vector<char>& needed, const Partition::Piece& piece, int peer) {
  Share share = {peer, {}};
  for (std::int64_t b = piece.blocks.end() - 1; b >= piece.blocks.first.value; --b) {
    if (needed[static_cast<std::size_t>(b)] != 0) append(share.ranges, b);
  }
  return share;
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

BlockNeeds needs_of(const Pattern& pattern, const Partition& partition) {
  const std::vector<Partition::Piece> pieces = partition.pieces();
  const std::vector<int> piece_of = piece_by_block(pieces, partition.end_block());
  BlockNeeds needed(static_cast<std::size_t>(partition.ranks()),
                    std::vector<char>(piece_of.size(), 0));
  for (std::int64_t query = partition.first_block(); query < partition.end_block(); ++query) {
    const int rank =
        pieces[static_cast<std::size_t>(piece_of[static_cast<std::size_t>(query)])].owner;
    for (const std::int64_t key : pattern.key_blocks(query)) {
      if (key < partition.first_block()) break;  // descending: the rest is past as well
      const auto k = static_cast<std::size_t>(key);
      if (pieces[static_cast<std::size_t>(piece_of[k])].owner != rank) {
        needed[static_cast<std::size_t>(rank)][k] = 1;
      }
    }
  }
  return needed;
}

ExchangePlan make_exchange_plan(const Pattern& pattern, const Partition& partition, int rank) {
  return make_exchange_plan(needs_of(pattern, partition), pattern.sink(), partition, rank);
}

ExchangePlan make_exchange_plan(BlockNeeds needed, std::int64_t sinks, const Partition& partition,
                                int rank) {
  const std::vector<Partition::Piece> pieces = partition.pieces();
  ExchangePlan plan;

  // Sink blocks leave the shares. Queries behind a piece need all of its sink blocks.
  for (std::size_t p = pieces.size(); p-- > 0;) {
    const BlockRange& blocks = pieces[p].blocks;
    const BlockRange sink = {blocks.first, std::min(sinks, blocks.end()) - blocks.first.value};
    if (sink.count <= 0) continue;
    std::vector<int> members = {pieces[p].owner};
    for (int r = 0; r < partition.ranks(); ++r) {
      auto& of_rank = needed[static_cast<std::size_t>(r)];
      const auto begin = of_rank.begin() + sink.first.value;
      if (std::find(begin, begin + sink.count, 1) != begin + sink.count) members.push_back(r);
      std::fill_n(begin, sink.count, 0);
    }
    if (members.size() == 1 || std::find(members.begin(), members.end(), rank) == members.end()) {
      continue;
    }
    SinkTree tree = place_in_tree(members, rank);
    tree.blocks = {pieces[p].owner, {sink}};
    tree.piece = static_cast<int>(p);
    plan.sinks.push_back(std::move(tree));
  }

  for (std::size_t p = pieces.size(); p-- > 0;) {
    Share share = share_of(needed[static_cast<std::size_t>(rank)], pieces[p], pieces[p].owner);
    if (!share.ranges.empty()) plan.receives.push_back(std::move(share));
  }
  for (int r = 0; r < partition.ranks(); ++r) {
    for (std::size_t p = pieces.size(); p-- > 0;) {
      if (pieces[p].owner != rank) continue;
      Share share = share_of(needed[static_cast<std::size_t>(r)], pieces[p], r);
      if (!share.ranges.empty()) plan.sends.push_back(std::move(share));
    }
  }
  return plan;
}

}  // namespace powerprefill
