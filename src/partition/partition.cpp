#include "partition/partition.hpp"

#include <algorithm>

#include "base/checked.hpp"

namespace powerprefill {

template <typename OwnerOf>
Partition Partition::cut(TokenRange tokens, std::int64_t block, int ranks, std::int64_t unit_blocks,
                         int pieces, const OwnerOf& owner_of) {
  Partition partition;
  partition.tokens_ = tokens;
  partition.block_ = block;
  const std::int64_t first = partition.first_block();
  const std::int64_t past_last = partition.end_block();
  // Units lie at multiples of unit_blocks of the whole prompt, so the first may begin in the past.
  const auto units_of = [&] { return ceil_div(past_last, unit_blocks) - first / unit_blocks; };
  if (units_of() < 4 * std::int64_t{pieces}) unit_blocks = 1;
  const std::int64_t first_unit = first / unit_blocks;
  const std::int64_t units = units_of();
  partition.ranges_.resize(static_cast<std::size_t>(ranks));
  const auto boundary = [&](std::int64_t piece) {
    const std::int64_t unit = first_unit + checked_mul(units, piece) / pieces;
    return std::clamp(unit * unit_blocks, first, past_last);
  };
  for (int piece = 0; piece < pieces; ++piece) {
    const std::int64_t begin = boundary(piece);
    const std::int64_t end = boundary(piece + 1);
    if (begin == end) continue;
    partition.ranges_[static_cast<std::size_t>(owner_of(piece))].push_back(
        {GlobalBlock{begin}, end - begin});
  }
  return partition;
}

Partition Partition::contiguous(TokenRange tokens, std::int64_t block, int ranks,
                                std::int64_t unit_blocks) {
  return cut(tokens, block, ranks, unit_blocks, ranks, [](int piece) { return piece; });
}

Partition Partition::zigzag(TokenRange tokens, std::int64_t block, int ranks,
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

std::int64_t Partition::end_block() const {
  return ceil_div(tokens_.end, block_);
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
    count += end_token(GlobalBlock{range.end() - 1}) - first_new_token(range.first);
  }
  return count;
}

std::int64_t Partition::end_token(GlobalBlock block) const {
  return std::min(tokens_.end, (block.value + 1) * block_);
}

std::int64_t Partition::first_new_token(GlobalBlock block) const {
  return std::max(tokens_.begin, block.value * block_);
}

}  // namespace powerprefill
