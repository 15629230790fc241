// What a block sees after some layers, and what a pattern costs. Pure functions.
//
// A layer lets a block see its key blocks; two layers let it see theirs too. So the receptive field
// of a query block is what can be reached from it in the graph "query block -> key block", one step
// per layer, from the top layer down. A block keeps what it has: the sets only grow.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "powerprefill/pattern.hpp"

namespace powerprefill {

struct ReceptiveField {
  // (query + 1) For each block up to the query: the least number of layers after which it is
  // reached; 0 for the query itself, -1 when it is not reached.
  std::vector<std::int64_t> layers_to;
  // (steps + 1) reached[k]: the blocks reached after k layers, the query itself included.
  std::vector<std::int64_t> reached;

  std::int64_t query() const { return static_cast<std::int64_t>(layers_to.size()) - 1; }
  // The share of the blocks before the query that `layers` layers reach, in [0, 1]; beyond the last
  // step it stays.
  double covered(std::int64_t layers) const;
  // The least number of layers that reaches every block, or -1.
  std::int64_t layers_to_cover() const;
  // The blocks that are not reached, ascending.
  std::vector<std::int64_t> unreached() const;
};

// One step for each of `layers` (the bottom layer first, as in a Schedule): the last one is taken
// first. Cost: O(attended pairs) for each different pattern.
// @pre query >= 0. Throws Error(usage) for a pattern that does not exist.
ReceptiveField receptive_field(std::span<const PatternSpec> layers, std::int64_t query);

// As many layers of one pattern as reach something new: what is unreached stays so at any depth.
ReceptiveField receptive_field(const Pattern& pattern, std::int64_t query);

// Attended block pairs of a prompt.
struct PairCount {
  std::int64_t blocks = 0;
  std::int64_t pairs = 0;

  std::int64_t causal() const { return blocks * (blocks + 1) / 2; }
  double per_block() const { return static_cast<double>(pairs) / static_cast<double>(blocks); }
  // Attended pairs over causal pairs, in (0, 1]; the paper's sparsity is what is missing to 1.
  double density() const { return static_cast<double>(pairs) / static_cast<double>(causal()); }
};

// @pre blocks >= 1
PairCount count_pairs(const Pattern& pattern, std::int64_t blocks);

}  // namespace powerprefill
