// How evenly a partition spreads the work of one layer, and what its ranks receive. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "partition/partition.hpp"
#include "powerprefill/pattern.hpp"

namespace powerprefill {

// One layer under a pattern and a partition; one entry per rank.
struct Balance {
  std::vector<std::int64_t> pairs;     // attended (query block, key block) pairs: its work
  std::vector<std::int64_t> received;  // KV blocks that come from other ranks, sinks included
  std::vector<std::int64_t> partners;  // ranks that they come from

  // The most pairs of a rank over the mean of all ranks: 1 is perfect, P is one rank at work.
  double max_over_mean() const;
  std::int64_t max_received() const;
  std::int64_t total_received() const;
  std::int64_t max_partners() const;
};

// @pre partition.tokens().begin == 0
// Cost: O(attended pairs + ranks^2 x blocks).
Balance balance_of(const Pattern& pattern, const Partition& partition);

}  // namespace powerprefill
