#include "layers/local_rows.hpp"

#include <gtest/gtest.h>

#include "math/linear/linear.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill {
namespace {

// Tiles lie at fixed places of the prompt and cover whole blocks; every owned token is in one tile.
TEST(LocalRows, TilesCoverTheOwnedTokensOnce) {
  for (const int ranks : {1, 2, 3, 7}) {
    for (const std::int64_t block : {1, 16, 96, 256, 300, 512}) {
      for (const std::int64_t tokens : {1, 255, 256, 257, 1000, 2048, 5003}) {
        const Partition partition = Partition::contiguous(tokens, block, ranks, 1);
        std::int64_t next_token = 0;
        for (int r = 0; r < ranks; ++r) {
          SCOPED_TRACE(testing::Message() << "rank " << r << " of " << ranks << " block " << block
                                          << " tokens " << tokens);
          const LocalRows rows(partition, r);
          ASSERT_EQ(rows.tokens(), partition.tokens_of(r));
          ASSERT_EQ(rows.blocks(), partition.blocks_of(r));
          ASSERT_EQ(rows.block(), block);
          ASSERT_EQ(rows.tiles() * kTileTokens, rows.rows());
          const std::int64_t first_owned = next_token;
          for (std::int64_t tile = 0; tile < rows.tiles(); ++tile) {
            const auto part = rows.tokens_of_tile(tile);
            ASSERT_LE(part.begin_row, part.end_row);
            ASSERT_GE(part.begin_row, tile * kTileTokens);
            ASSERT_LE(part.end_row, (tile + 1) * kTileTokens);
            if (part.begin_row == part.end_row) continue;
            ASSERT_EQ(part.first_position, next_token);
            // Row and position agree modulo the tile.
            ASSERT_EQ((part.first_position - part.begin_row) % kTileTokens, 0);
            ASSERT_EQ(part.first_block_row, next_token - first_owned);
            next_token += part.end_row - part.begin_row;
          }
          ASSERT_EQ(next_token - first_owned, rows.tokens());
          for (const RowRun& run : rows.runs()) {
            ASSERT_EQ(run.first_token % kTileTokens, 0);
            ASSERT_LE(run.first_token, run.begin_token);
            ASSERT_LT(run.begin_token - run.first_token, kTileTokens);
            ASSERT_GE(run.first_token + run.rows, run.blocks.end() * block);
            ASSERT_EQ(run.rows % kTileTokens, 0);
          }
          ASSERT_THROW(rows.tokens_of_tile(rows.tiles()), Error);
        }
        ASSERT_EQ(next_token, tokens);
      }
    }
  }
}

TEST(LocalRows, ARankWithoutBlocksHasNone) {
  const Partition partition = Partition::contiguous(10, 16, 3, 1);
  int without = 0;
  for (int r = 0; r < 3; ++r) {
    const LocalRows rows(partition, r);
    if (rows.tokens() > 0) continue;
    ++without;
    EXPECT_EQ(rows.rows(), 0);
    EXPECT_TRUE(rows.runs().empty());
  }
  EXPECT_EQ(without, 2);
}

TEST(LocalRows, FarIntoAPromptOfMoreThan2To33Tokens) {
  const std::int64_t tokens = (std::int64_t{1} << 33) + 5;
  const Partition partition = Partition::contiguous(tokens, 256, 8, 1);
  const LocalRows rows(partition, 7);
  const auto last = rows.tokens_of_tile(rows.tiles() - 1);
  EXPECT_EQ(last.first_position, std::int64_t{1} << 33);
  EXPECT_EQ(last.end_row - last.begin_row, 5);
  EXPECT_EQ(rows.tokens(), partition.tokens_of(7));
}

}  // namespace
}  // namespace powerprefill
