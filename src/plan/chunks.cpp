#include "plan/chunks.hpp"

#include <algorithm>
#include <numeric>

#include "math/linear/linear.hpp"

namespace powerprefill {

bool takes_zigzag(BlockPartition partition, const Schedule& schedule) {
  if (partition != BlockPartition::automatic) return partition == BlockPartition::zigzag;
  return std::any_of(schedule.layers.begin(), schedule.layers.end(),
                     [](const PatternSpec& spec) { return spec.name == "full"; });
}

Partition chunk_partition(TokenRange tokens, std::int64_t block, int ranks, bool zigzag) {
  // The smallest number of blocks that fills whole tiles.
  const std::int64_t unit = std::lcm(block, kTileTokens) / block;
  return zigzag ? Partition::zigzag(tokens, block, ranks, unit)
                : Partition::contiguous(tokens, block, ranks, unit);
}

std::int64_t end_of_chunk(std::int64_t begin, std::int64_t chunk_tokens, std::int64_t block,
                          std::int64_t end) {
  return std::min(end, (begin + chunk_tokens) / block * block);
}

}  // namespace powerprefill
