// Which key blocks the query blocks of one rank attend to in one layer.
//
// Today a pattern says it, a pure function of block numbers, alike for all heads. A choice that is
// made at run time, from the keys, takes the same place: the ranks that own the queries fill a
// selection for each group of heads, tell each other what they need (the rows of BlockNeeds, in
// exchange_plan.hpp: the request step before the exchange), and everything behind it, the exchange,
// the reading of the past and the attention, takes it as it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "partition/partition.hpp"
#include "powerprefill/pattern.hpp"

namespace powerprefill {

class BlockSelection {
 public:
  BlockSelection() = default;
  // `groups`: equal runs of key/value heads that choose alike; `blocks`: local ones.
  BlockSelection(std::int64_t groups, std::int64_t blocks)
      : groups_(groups), blocks_(blocks), keys_(static_cast<std::size_t>(groups * blocks)) {}
  static BlockSelection by_pattern(const Pattern& pattern, const Partition& partition, int rank);

  std::int64_t groups() const { return groups_; }
  std::int64_t blocks() const { return blocks_; }
  // Strictly descending, the block itself first: the order in which attention merges them.
  std::vector<std::int64_t>& keys(std::int64_t group, std::int64_t local_block) {
    return keys_[static_cast<std::size_t>(group * blocks_ + local_block)];
  }
  const std::vector<std::int64_t>& keys(std::int64_t group, std::int64_t local_block) const {
    return keys_[static_cast<std::size_t>(group * blocks_ + local_block)];
  }
  // The blocks below `end` that any query attends to, descending.
  std::vector<std::int64_t> needed_below(std::int64_t end) const;

 private:
  std::int64_t groups_ = 1;
  std::int64_t blocks_ = 0;
  std::vector<std::vector<std::int64_t>> keys_;  // (groups, local blocks)
};

}  // namespace powerprefill
