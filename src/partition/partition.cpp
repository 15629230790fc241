#include "partition/partition.hpp"

#include <algorithm>

#include "base/checked.hpp"

namespace powerprefill {

Partition Partition::contiguous(std::int64_t tokens, std::int64_t block, int ranks,
                                std::int64_t unit_blocks) {
  Partition partition;
  partition.tokens_ = tokens;
  partition.block_ = block;
  const std::int64_t blocks = partition.blocks();
  if (ceil_div(blocks, unit_blocks) < 4 * std::int64_t{ranks}) unit_blocks = 1;
  const std::int64_t units = ceil_div(blocks, unit_blocks);
  partition.ranges_.resize(static_cast<std::size_t>(ranks));
  const auto boundary = [&](std::int64_t rank) {
    return std::min(blocks, checked_mul(units, rank) / ranks * unit_blocks);
  };
  for (int r = 0; r < ranks; ++r) {
    const std::int64_t first = boundary(r);
    const std::int64_t end = boundary(r + 1);
    if (first < end) {
      partition.ranges_[static_cast<std::size_t>(r)].push_back({GlobalBlock{first}, end - first});
    }
  }
  return partition;
}

std::int64_t Partition::blocks() const { return ceil_div(tokens_, block_); }

int Partition::owner(GlobalBlock block) const {
  for (int r = 0; r < ranks(); ++r) {
    for (const BlockRange& range : ranges_of(r)) {
      if (range.contains(block)) return r;
    }
  }
  throw Error(ErrorCode::internal, "block " + std::to_string(block.value) + " has no owner");
}

LocalBlock Partition::local(GlobalBlock block) const {
  std::int64_t before = 0;
  for (const BlockRange& range : ranges_of(owner(block))) {
    if (range.contains(block)) return {before + block.value - range.first.value};
    before += range.count;
  }
  return {before};
}

std::int64_t Partition::blocks_of(int rank) const {
  std::int64_t count = 0;
  for (const BlockRange& range : ranges_of(rank)) count += range.count;
  return count;
}

std::int64_t Partition::tokens_of(int rank) const {
  std::int64_t count = 0;
  for (const BlockRange& range : ranges_of(rank)) {
    count += std::min(tokens_, range.end() * block_) - range.first.value * block_;
  }
  return count;
}

std::int64_t Partition::end_token(GlobalBlock block) const {
  return std::min(tokens_, (block.value + 1) * block_);
}

}  // namespace powerprefill
