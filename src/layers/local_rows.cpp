#include "layers/local_rows.hpp"

#include <algorithm>

#include "base/checked.hpp"
#include "math/linear/linear.hpp"

namespace powerprefill {

LocalRows::LocalRows(const Partition& partition, int rank) : block_(partition.block()) {
  for (const BlockRange& range : partition.ranges_of(rank)) {
    RowRun run{};
    run.blocks = range;
    run.block = block_;
    run.first_local_block = blocks_;
    run.begin_token = partition.first_new_token(range.first);
    run.end_token = partition.end_token(GlobalBlock{range.end() - 1});
    run.first_token = run.begin_token / kTileTokens * kTileTokens;
    run.first_row = rows_;
    run.rows = round_up(range.end() * block_ - run.first_token, kTileTokens);
    runs_.push_back(run);
    rows_ += run.rows;
    tokens_ += run.end_token - run.begin_token;
    blocks_ += range.count;
  }
}

std::int64_t LocalRows::tiles() const {
  return rows_ / kTileTokens;
}

LocalRows::TileTokens LocalRows::tokens_of_tile(std::int64_t tile) const {
  const std::int64_t row = tile * kTileTokens;
  for (const RowRun& run : runs_) {
    if (row >= run.first_row + run.rows) continue;
    const std::int64_t position = run.first_token + row - run.first_row;
    const std::int64_t begin = std::max(position, run.begin_token);
    const std::int64_t end = std::max(begin, std::min(position + kTileTokens, run.end_token));
    return {.begin_row = row + begin - position,
            .end_row = row + end - position,
            .first_position = begin,
            .first_block_row = (run.first_local_block - run.blocks.first.value) * block_ + begin};
  }
  throw Error(ErrorCode::internal, "tile " + std::to_string(tile) + " is not on this rank");
}

}  // namespace powerprefill
