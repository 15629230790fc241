#include "partition/partition.hpp"

#include <algorithm>

#include "base/checked.hpp"

namespace powerprefill {

template <typename OwnerOf>
Partition Partition::cut(std::int64_t tokens, std::int64_t block, int ranks,
                         std::int64_t unit_blocks, int pieces, const OwnerOf& owner_of) {
  Partition partition;
  partition.tokens_ = tokens;
  partition.block_ = block;
  const std::int64_t blocks = partition.blocks();
  if (ceil_div(blocks, unit_blocks) < 4 * std::int64_t{pieces}) unit_blocks = 1;
  const std::int64_t units = ceil_div(blocks, unit_blocks);
  partition.ranges_.resize(static_cast<std::size_t>(ranks));
  const auto boundary = [&](std::int64_t piece) {
    return std::min(blocks, checked_mul(units, piece) / pieces * unit_blocks);
  };
  for (int piece = 0; piece < pieces; ++piece) {
    const std::int64_t first = boundary(piece);
    const std::int64_t end = boundary(piece + 1);
    if (first == end) continue;
    partition.ranges_[static_cast<std::size_t>(owner_of(piece))].push_back(
        {GlobalBlock{first}, end - first});
  }
  return partition;
}

Partition Partition::contiguous(std::int64_t tokens, std::int64_t block, int ranks,
                                std::int64_t unit_blocks) {
  return cut(tokens, block, ranks, unit_blocks, ranks, [](int piece) { return piece; });
}

Partition Partition::zigzag(std::int64_t tokens, std::int64_t block, int ranks,
                            std::int64_t unit_blocks) {
  return cut(tokens, block, ranks, unit_blocks, 2 * ranks,
             [ranks](int piece) { return std::min(piece, 2 * ranks - 1 - piece); });
}

std::vector<Partition::Piece> Partition::pieces() const {
  std::vector<Piece> all;
  for (int r = 0; r < ranks(); ++r) {
    for (const BlockRange& range : ranges_of(r)) all.push_back({range, r});
  }
  std::sort(all.begin(), all.end(),
            [](const Piece& a, const Piece& b) { return a.blocks.first < b.blocks.first; });
  return all;
}

std::int64_t Partition::blocks() const {
  return ceil_div(tokens_, block_);
}

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
