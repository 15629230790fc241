// Who sends which KV blocks to whom for one layer: a pure function of pattern and partition.
//
// Two kinds of traffic:
// - *shares*: of each contiguous piece of another rank the blocks that the receiver's queries need,
//   in one go;
// - the *sink*: blocks that every later rank needs travel down binomial trees instead, so that no
//   owner has to send them P - 1 times.
//
// With the power pattern and L blocks per rank (a power of two), a rank receives shares from ranks
// r - 1, r - 2, r - 4, ..., at most log2 P partners, and the sink from one tree parent.
// Example, P = 4, L = 8, window 5, sink 1 (blocks 0..31), rank 3 (blocks 24..31):
//   from rank 2: blocks 16..23 (window and distance 8); from rank 1: blocks 8..15 (distance 16);
//   from rank 0: the sink (block 0) through its tree parent, rank 2.
// Bytes received by a rank: blocks received x 2 B G D x bytes of an element, counted by
// received_blocks().
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "partition/partition.hpp"
#include "powerprefill/pattern.hpp"

namespace powerprefill {

// Blocks that go from one rank to another; ranges in descending order, the order of use.
struct Share {
  int peer = -1;
  std::vector<BlockRange> ranges;
  std::int64_t blocks() const;
  // The lowest block: a query that has merged it is done with the share.
  std::int64_t lowest() const { return ranges.back().first.value; }
  bool operator==(const Share&) const = default;
};

// One rank's place in the tree that spreads the sink blocks of one piece.
struct SinkTree {
  Share blocks;               // peer: the owner
  int piece = 0;              // number of the piece, the same on every rank
  int parent = -1;            // -1 at the owner
  std::vector<int> children;  // in the order of sending
};

// One rank's part of the exchange of one layer.
struct ExchangePlan {
  std::vector<Share> receives;  // by descending block: the order in which queries merge them
  std::vector<Share> sends;     // by ascending peer, then as the peer receives them
  std::vector<SinkTree> sinks;  // by descending first block; only trees that this rank is part of

  std::int64_t received_blocks() const;
};

// needed[rank][block]: the rank attends to the block and does not own it.
using BlockNeeds = std::vector<std::vector<char>>;
BlockNeeds needs_of(const Pattern& pattern, const Partition& partition);

// The plan for needs that all ranks agree on; the first `sinks` blocks are needed by every rank
// whose queries lie behind them.
ExchangePlan make_exchange_plan(BlockNeeds needed, std::int64_t sinks, const Partition& partition,
                                int rank);
// The same for a pattern. Blocks before partition.first_block() are not part of it. Cost: O(blocks
// x out-degree), the same on every rank.
ExchangePlan make_exchange_plan(const Pattern& pattern, const Partition& partition, int rank);

}  // namespace powerprefill
