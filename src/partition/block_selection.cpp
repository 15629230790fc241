#include "partition/block_selection.hpp"

namespace powerprefill {

BlockSelection BlockSelection::by_pattern(const Pattern& pattern, const Partition& partition,
                                          int rank) {
  BlockSelection selection(1, partition.blocks_of(rank));
  std::int64_t local = 0;
  for (const BlockRange& range : partition.ranges_of(rank)) {
    for (std::int64_t query = range.first.value; query < range.end(); ++query) {
      selection.keys(0, local++) = pattern.key_blocks(query);
    }
  }
  return selection;
}

std::vector<std::int64_t> BlockSelection::needed_below(std::int64_t end) const {
  std::vector<bool> needed(static_cast<std::size_t>(end), false);
  for (const std::vector<std::int64_t>& keys : keys_) {
    for (const std::int64_t key : keys) {
      if (key < end) needed[static_cast<std::size_t>(key)] = true;
    }
  }
  std::vector<std::int64_t> blocks;
  for (std::int64_t block = end - 1; block >= 0; --block) {
    if (needed[static_cast<std::size_t>(block)]) blocks.push_back(block);
  }
  return blocks;
}

}  // namespace powerprefill
