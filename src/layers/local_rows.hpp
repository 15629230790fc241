// Where the tokens of one rank lie in its activation buffers.
#pragma once

#include <cstdint>
#include <vector>

#include "partition/partition.hpp"

namespace powerprefill {

// A contiguous piece of the prompt on this rank.
//
// Its activation rows cover whole GEMM tiles at their global positions, and whole blocks: row i is
// the token first_token + i. Rows outside [begin_token, end_token) belong to other ranks or lie
// beyond the prompt; they are zero at first and never read as data.
struct RowRun {
  BlockRange blocks;
  std::int64_t first_local_block;  // LocalBlock of blocks.first
  std::int64_t begin_token;        // first token of the blocks that is not past
  std::int64_t end_token;          // one past their last token, at most T
  std::int64_t first_token;        // position of row 0, a multiple of kTileTokens
  std::int64_t first_row;          // row 0's place in the rank's buffers, a multiple of kTileTokens
  std::int64_t rows;               // a multiple of kTileTokens
  std::int64_t block;              // B
  // First token of the first block: where the run's rows begin when blocks lie end to end.
  std::int64_t first_block_token() const { return blocks.first.value * block; }
};

class LocalRows {
 public:
  LocalRows(const Partition& partition, int rank);

  const std::vector<RowRun>& runs() const { return runs_; }
  std::int64_t rows() const { return rows_; }      // all runs
  std::int64_t tokens() const { return tokens_; }  // owned
  std::int64_t blocks() const { return blocks_; }  // owned
  std::int64_t block() const { return block_; }    // B
  std::int64_t tiles() const;

  // The owned tokens of GEMM tile `tile` of this rank: rows [begin, end) of the buffers, and the
  // position of the first. Empty ranges are possible.
  struct TileTokens {
    std::int64_t begin_row;
    std::int64_t end_row;
    std::int64_t first_position;
    std::int64_t first_block_row;  // row of that token when blocks are laid end to end
  };
  TileTokens tokens_of_tile(std::int64_t tile) const;

 private:
  std::vector<RowRun> runs_;
  std::int64_t block_ = 1;
  std::int64_t rows_ = 0;
  std::int64_t tokens_ = 0;
  std::int64_t blocks_ = 0;
};

}  // namespace powerprefill
