// The split of a prompt over ranks, as a value. Pure; no MPI.
//
// | from | to | call |
// | --- | --- | --- |
// | GlobalBlock | rank | owner() |
// | GlobalBlock, its owner | LocalBlock | local() |
// | rank | its blocks, ascending ranges | ranges_of() |
// | GlobalBlock | tokens [begin, end) | first_token(), end_token() |
#pragma once

#include <cstdint>
#include <vector>

#include "partition/index.hpp"

namespace powerprefill {

class Partition {
 public:
  // Contiguous shares in rank order, as equal as possible: rank r owns blocks
  // [r U / P, (r + 1) U / P) x unit_blocks of U units. Units keep rank boundaries at tile boundaries
  // (see math/linear.hpp), which saves work but changes no result; with fewer than 4 units a rank
  // the unit is one block. Ranks may own nothing when there are more ranks than blocks.
  // @pre tokens >= 1, block >= 1, ranks >= 1, unit_blocks >= 1
  static Partition contiguous(std::int64_t tokens, std::int64_t block, int ranks,
                              std::int64_t unit_blocks);

  std::int64_t tokens() const { return tokens_; }
  std::int64_t block() const { return block_; }
  int ranks() const { return static_cast<int>(ranges_.size()); }
  std::int64_t blocks() const;

  int owner(GlobalBlock block) const;
  LocalBlock local(GlobalBlock block) const;
  // Ascending and not adjacent to each other; empty for a rank without blocks.
  const std::vector<BlockRange>& ranges_of(int rank) const {
    return ranges_[static_cast<std::size_t>(rank)];
  }
  std::int64_t blocks_of(int rank) const;
  std::int64_t tokens_of(int rank) const;

  std::int64_t first_token(GlobalBlock block) const { return block.value * block_; }
  // One past the block's last token; the last block of the prompt may be short.
  std::int64_t end_token(GlobalBlock block) const;

 private:
  std::int64_t tokens_ = 0;
  std::int64_t block_ = 1;
  std::vector<std::vector<BlockRange>> ranges_;  // per rank
};

}  // namespace powerprefill
