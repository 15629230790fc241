// The split of a prompt, or of one chunk of it, over ranks, as a value. Pure; no MPI.
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
  // Contiguous shares in rank order, as equal as possible: of the U units of unit_blocks blocks
  // that hold tokens [begin, end), rank r owns [r U / P, (r + 1) U / P). Units keep rank boundaries
  // at tile boundaries (see math/linear/linear.hpp), which saves work but changes no result; with
  // fewer than 4 units a rank the unit is one block. Ranks may own nothing when there are more
  // ranks than blocks. Tokens before `begin` are the past: their blocks have no owner, except for
  // those that share their block with `begin`.
  // @pre 0 <= begin < end, block >= 1, ranks >= 1, unit_blocks >= 1
  static Partition contiguous(TokenRange tokens, std::int64_t block, int ranks,
                              std::int64_t unit_blocks);

  // 2 P contiguous chunks; rank r owns chunk r and chunk 2 P - 1 - r, so that under full causal
  // attention every rank has the same work: an early chunk sees little, a late one much. Chunks are
  // cut like the shares of contiguous().
  static Partition zigzag(TokenRange tokens, std::int64_t block, int ranks,
                          std::int64_t unit_blocks);

  TokenRange tokens() const { return tokens_; }
  std::int64_t block() const { return block_; }
  int ranks() const { return static_cast<int>(ranges_.size()); }
  // Blocks [first_block(), end_block()) have owners; all blocks before are the past.
  std::int64_t first_block() const { return tokens_.begin / block_; }
  std::int64_t end_block() const;

  int owner(GlobalBlock block) const;
  LocalBlock local(GlobalBlock block) const;
  // Ascending; empty for a rank without blocks. Two ranges of a rank may touch.
  const std::vector<BlockRange>& ranges_of(int rank) const {
    return ranges_[static_cast<std::size_t>(rank)];
  }
  // The ranges of all ranks by ascending first block: the pieces in which blocks travel.
  struct Piece {
    BlockRange blocks;
    int owner;
  };
  std::vector<Piece> pieces() const;
  std::int64_t blocks_of(int rank) const;
  std::int64_t tokens_of(int rank) const;

  std::int64_t first_token(GlobalBlock block) const { return block.value * block_; }
  // One past the block's last token; the last block may be short.
  std::int64_t end_token(GlobalBlock block) const;
  // The tokens of the block that are not past: none of them are missing but in the first block.
  std::int64_t first_new_token(GlobalBlock block) const;

 private:
  // Cuts the tokens into `pieces` contiguous pieces; owner_of(piece) tells whose they are.
  template <typename OwnerOf>
  static Partition cut(TokenRange tokens, std::int64_t block, int ranks, std::int64_t unit_blocks,
                       int pieces, const OwnerOf& owner_of);

  TokenRange tokens_;
  std::int64_t block_ = 1;
  std::vector<std::vector<BlockRange>> ranges_;  // per rank
};

}  // namespace powerprefill
