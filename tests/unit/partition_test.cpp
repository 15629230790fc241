#include "partition/partition.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "base/checked.hpp"

namespace powerprefill {
namespace {

void expect_sound(const Partition& p, std::int64_t tokens, std::int64_t block, int ranks) {
  ASSERT_EQ(p.tokens().end, tokens);
  ASSERT_EQ(p.block(), block);
  ASSERT_EQ(p.ranks(), ranks);
  ASSERT_EQ(p.end_block(), (tokens + block - 1) / block);
  std::int64_t next = 0;  // blocks ascend over ranks and ranges, without gap or overlap
  std::int64_t tokens_seen = 0;
  for (int r = 0; r < ranks; ++r) {
    std::int64_t local = 0;
    ASSERT_LE(p.ranges_of(r).size(), 1U);
    for (const BlockRange& range : p.ranges_of(r)) {
      ASSERT_GT(range.count, 0);
      ASSERT_EQ(range.first.value, next);
      next = range.end();
      for (std::int64_t b = range.first.value; b < range.end(); ++b) {
        ASSERT_EQ(p.owner(GlobalBlock{b}), r);
        ASSERT_EQ(p.local(GlobalBlock{b}), LocalBlock{local++});
        ASSERT_EQ(p.first_token(GlobalBlock{b}), b * block);
        ASSERT_EQ(p.end_token(GlobalBlock{b}), std::min(tokens, (b + 1) * block));
      }
    }
    ASSERT_EQ(p.blocks_of(r), local);
    tokens_seen += p.tokens_of(r);
  }
  ASSERT_EQ(next, p.end_block());
  ASSERT_EQ(tokens_seen, tokens);
}

TEST(Partition, EveryBlockIsOwnedOnceInOrder) {
  for (int ranks = 1; ranks <= 13; ++ranks) {
    for (const std::int64_t block : {1, 16, 96, 256, 300}) {
      for (const std::int64_t blocks : {1, 2, 3, 5, 12, 13, 14, 64, 100, 257}) {
        for (const std::int64_t missing : {std::int64_t{0}, block / 2, block - 1}) {
          for (const std::int64_t unit : {1, 2, 8, 16}) {
            SCOPED_TRACE(testing::Message()
                         << "ranks " << ranks << " block " << block << " blocks " << blocks
                         << " short by " << missing << " unit " << unit);
            const std::int64_t tokens = blocks * block - missing;
            const Partition p = Partition::contiguous(tokens, block, ranks, unit);
            ASSERT_NO_FATAL_FAILURE(expect_sound(p, tokens, block, ranks));
          }
        }
      }
    }
  }
}

TEST(Partition, SizesDifferByAtMostAUnit) {
  for (int ranks = 1; ranks <= 13; ++ranks) {
    for (const std::int64_t unit : {1, 2, 8, 16}) {
      for (std::int64_t blocks = 1; blocks <= 300; ++blocks) {
        const Partition p = Partition::contiguous(blocks * 32, 32, ranks, unit);
        const bool in_units = (blocks + unit - 1) / unit >= 4 * ranks;
        std::int64_t least = blocks;
        std::int64_t most = 0;
        for (int r = 0; r < ranks; ++r) {
          least = std::min(least, p.blocks_of(r));
          most = std::max(most, p.blocks_of(r));
          if (!in_units) continue;
          const std::int64_t first = p.ranges_of(r).front().first.value;
          ASSERT_EQ(first % unit, 0) << "ranks " << ranks << " unit " << unit;
        }
        ASSERT_LE(most - least, in_units ? unit : 1)
            << "ranks " << ranks << " unit " << unit << " blocks " << blocks;
      }
    }
  }
}

TEST(Partition, MoreRanksThanBlocks) {
  const Partition p = Partition::contiguous(3 * 16 - 5, 16, 7, 16);
  std::int64_t owners = 0;
  for (int r = 0; r < 7; ++r) {
    EXPECT_LE(p.blocks_of(r), 1);
    owners += p.blocks_of(r);
    if (p.blocks_of(r) == 0) {
      EXPECT_TRUE(p.ranges_of(r).empty());
      EXPECT_EQ(p.tokens_of(r), 0);
    }
  }
  EXPECT_EQ(owners, 3);
  EXPECT_EQ(p.tokens_of(p.owner(GlobalBlock{2})), 11);
}

TEST(Partition, BlocksOutsideHaveNoOwner) {
  const Partition p = Partition::contiguous(100, 16, 3, 1);
  EXPECT_THROW(p.owner(GlobalBlock{7}), Error);
  EXPECT_THROW(p.owner(GlobalBlock{-1}), Error);
  EXPECT_THROW(p.local(GlobalBlock{7}), Error);
}

TEST(Partition, TokensBeyond2To33) {
  constexpr std::int64_t tokens = (std::int64_t{1} << 33) + 5;
  constexpr std::int64_t blocks = (std::int64_t{1} << 25) + 1;
  for (const int ranks : {1, 3, 8, 13}) {
    for (const std::int64_t unit : {1, 16}) {
      const Partition p = Partition::contiguous(tokens, 256, ranks, unit);
      ASSERT_EQ(p.end_block(), blocks);
      std::int64_t next = 0;
      std::int64_t seen = 0;
      for (int r = 0; r < ranks; ++r) {
        ASSERT_EQ(p.ranges_of(r).size(), 1U);
        const BlockRange range = p.ranges_of(r).front();
        EXPECT_EQ(range.first.value, next);
        EXPECT_NEAR(static_cast<double>(range.count), static_cast<double>(blocks) / ranks,
                    static_cast<double>(unit));
        EXPECT_EQ(p.local(GlobalBlock{range.end() - 1}).value, range.count - 1);
        EXPECT_EQ(p.owner(range.first), r);
        next = range.end();
        seen += p.tokens_of(r);
      }
      EXPECT_EQ(next, blocks);
      EXPECT_EQ(seen, tokens);
      // Around 2^31, 2^32 and the end.
      for (const int power : {31, 32, 33}) {
        const GlobalBlock b{std::int64_t{1} << (power - 8)};
        EXPECT_EQ(p.first_token(b), std::int64_t{1} << power);
        EXPECT_EQ(p.end_token(GlobalBlock{b.value - 1}), std::int64_t{1} << power);
      }
      EXPECT_EQ(p.end_token(GlobalBlock{blocks - 1}), tokens);
    }
  }
}

TEST(Partition, BufferSizesBeyond2To33) {
  const Partition p = Partition::contiguous((std::int64_t{1} << 33) + 5, 256, 1, 1);
  EXPECT_EQ(checked_mul(p.tokens_of(0), 8192), ((std::int64_t{1} << 33) + 5) * 8192);
  EXPECT_EQ(checked_mul(-p.tokens_of(0), 3), -3 * ((std::int64_t{1} << 33) + 5));
  EXPECT_THROW(checked_mul(p.tokens_of(0), std::int64_t{1} << 30), Error);
  EXPECT_THROW(checked_mul(std::numeric_limits<std::int64_t>::min(), -1), Error);
  EXPECT_THROW(checked_cast<int>(p.tokens_of(0)), Error);
  EXPECT_THROW(checked_cast<std::size_t>(std::int64_t{-1}), Error);
  EXPECT_EQ(checked_cast<std::size_t>(p.tokens_of(0)), (std::size_t{1} << 33) + 5);
}

// Every block is owned once, in at most two ascending ranges of a rank; local blocks count on.
void expect_zigzag_sound(const Partition& p, std::int64_t tokens, std::int64_t block, int ranks) {
  ASSERT_EQ(p.tokens().end, tokens);
  ASSERT_EQ(p.ranks(), ranks);
  ASSERT_EQ(p.end_block(), (tokens + block - 1) / block);
  std::vector<int> owner(static_cast<std::size_t>(p.end_block()), -1);
  std::int64_t tokens_seen = 0;
  for (int r = 0; r < ranks; ++r) {
    std::int64_t local = 0;
    std::int64_t tokens_of = 0;
    std::int64_t next = 0;
    ASSERT_LE(p.ranges_of(r).size(), 2U);
    for (const BlockRange& range : p.ranges_of(r)) {
      ASSERT_GT(range.count, 0);
      ASSERT_GE(range.first.value, next);
      next = range.end();
      for (std::int64_t b = range.first.value; b < range.end(); ++b) {
        ASSERT_EQ(owner.at(static_cast<std::size_t>(b)), -1) << "block " << b << " is owned twice";
        owner[static_cast<std::size_t>(b)] = r;
        ASSERT_EQ(p.owner(GlobalBlock{b}), r);
        ASSERT_EQ(p.local(GlobalBlock{b}), LocalBlock{local++});
        tokens_of += std::min(tokens, (b + 1) * block) - b * block;
        ASSERT_EQ(p.end_token(GlobalBlock{b}), std::min(tokens, (b + 1) * block));
      }
    }
    ASSERT_EQ(p.blocks_of(r), local);
    ASSERT_EQ(p.tokens_of(r), tokens_of);
    tokens_seen += tokens_of;
  }
  ASSERT_EQ(std::count(owner.begin(), owner.end(), -1), 0);
  ASSERT_EQ(tokens_seen, tokens);
  // Owners go 0, 1, ..., P - 1, P - 1, ..., 1, 0 along the prompt; some may own nothing.
  std::int64_t next = 0;
  int chunk = -1;
  for (const Partition::Piece& piece : p.pieces()) {
    ASSERT_EQ(piece.blocks.first.value, next);
    next = piece.blocks.end();
    do {
      ++chunk;
      ASSERT_LT(chunk, 2 * ranks);
    } while (std::min(chunk, 2 * ranks - 1 - chunk) != piece.owner);
  }
  ASSERT_EQ(next, p.end_block());
}

TEST(Zigzag, EveryBlockIsOwnedOnce) {
  for (int ranks = 1; ranks <= 13; ++ranks) {
    for (const std::int64_t block : {1, 16, 300}) {
      for (const std::int64_t blocks : {1, 2, 3, 5, 12, 13, 14, 26, 27, 64, 100, 257}) {
        for (const std::int64_t missing : {std::int64_t{0}, block - 1}) {
          for (const std::int64_t unit : {1, 2, 8, 16}) {
            SCOPED_TRACE(testing::Message()
                         << "ranks " << ranks << " block " << block << " blocks " << blocks
                         << " short by " << missing << " unit " << unit);
            const std::int64_t tokens = blocks * block - missing;
            const Partition p = Partition::zigzag(tokens, block, ranks, unit);
            ASSERT_NO_FATAL_FAILURE(expect_zigzag_sound(p, tokens, block, ranks));
          }
        }
      }
    }
  }
}

TEST(Zigzag, RankOwnsAnEarlyAndALateChunk) {
  for (int ranks = 1; ranks <= 13; ++ranks) {
    for (const std::int64_t unit : {1, 2, 8, 16}) {
      for (std::int64_t blocks = 2 * ranks; blocks <= 330; blocks += 7) {
        SCOPED_TRACE(testing::Message()
                     << "ranks " << ranks << " unit " << unit << " blocks " << blocks);
        const Partition p = Partition::zigzag(blocks * 32, 32, ranks, unit);
        const bool in_units = (blocks + unit - 1) / unit >= 4 * 2 * ranks;
        const auto pieces = p.pieces();
        ASSERT_EQ(pieces.size(), static_cast<std::size_t>(2 * ranks));
        std::int64_t least = blocks;
        std::int64_t most = 0;
        for (int chunk = 0; chunk < 2 * ranks; ++chunk) {
          const Partition::Piece& piece = pieces[static_cast<std::size_t>(chunk)];
          const int mirror = 2 * ranks - 1 - chunk;
          ASSERT_EQ(piece.owner, std::min(chunk, mirror));
          ASSERT_EQ(p.ranges_of(piece.owner)[chunk < mirror ? 0 : 1], piece.blocks);
          least = std::min(least, piece.blocks.count);
          most = std::max(most, piece.blocks.count);
          ASSERT_EQ(in_units ? piece.blocks.first.value % unit : 0, 0);
        }
        ASSERT_LE(most - least, in_units ? 2 * unit - 1 : 1);  // the last chunk may end in a unit
      }
    }
  }
}

// Each rank has the same number of (query block, key block <= query block) pairs.
TEST(Zigzag, CausalWorkIsEqual) {
  for (int ranks = 1; ranks <= 13; ++ranks) {
    const std::int64_t blocks = 2 * ranks * 6;
    const Partition p = Partition::zigzag(blocks * 16, 16, ranks, 1);
    for (int r = 0; r < ranks; ++r) {
      std::int64_t pairs = 0;
      for (const BlockRange& range : p.ranges_of(r)) {
        for (std::int64_t b = range.first.value; b < range.end(); ++b) pairs += b + 1;
      }
      EXPECT_EQ(pairs * ranks, blocks * (blocks + 1) / 2) << "rank " << r << " of " << ranks;
    }
  }
}

TEST(Zigzag, FewBlocks) {
  const Partition one = Partition::zigzag(5, 16, 4, 16);  // one block, many chunks
  ASSERT_EQ(one.pieces().size(), 1U);
  EXPECT_EQ(one.tokens_of(one.pieces()[0].owner), 5);
  EXPECT_THROW(one.owner(GlobalBlock{1}), Error);
  EXPECT_THROW(one.owner(GlobalBlock{-1}), Error);
  const Partition three = Partition::zigzag(3 * 16 - 5, 16, 7, 1);
  std::int64_t tokens = 0;
  for (int r = 0; r < 7; ++r) {
    EXPECT_EQ(three.blocks_of(r) == 0, three.ranges_of(r).empty());
    tokens += three.tokens_of(r);
  }
  EXPECT_EQ(tokens, 3 * 16 - 5);
}

TEST(Zigzag, TokensBeyond2To33) {
  constexpr std::int64_t tokens = (std::int64_t{1} << 33) + 5;
  constexpr std::int64_t blocks = (std::int64_t{1} << 25) + 1;
  for (const int ranks : {1, 3, 8, 13}) {
    const Partition p = Partition::zigzag(tokens, 256, ranks, 1);
    std::int64_t seen = 0;
    for (int r = 0; r < ranks; ++r) {
      ASSERT_EQ(p.ranges_of(r).size(), 2U);
      EXPECT_NEAR(static_cast<double>(p.blocks_of(r)), static_cast<double>(blocks) / ranks, 2.0);
      const BlockRange& late = p.ranges_of(r)[1];
      EXPECT_EQ(p.local(GlobalBlock{late.end() - 1}).value, p.blocks_of(r) - 1);
      EXPECT_EQ(p.owner(late.first), r);
      seen += p.tokens_of(r);
    }
    EXPECT_EQ(seen, tokens);
    EXPECT_EQ(p.owner(GlobalBlock{blocks - 1}), 0);
  }
}

TEST(BlockRange, HoldsItsBlocksOnly) {
  const BlockRange range{GlobalBlock{4}, 3};
  EXPECT_EQ(range.end(), 7);
  EXPECT_FALSE(range.contains(GlobalBlock{3}));
  EXPECT_TRUE(range.contains(GlobalBlock{4}));
  EXPECT_TRUE(range.contains(GlobalBlock{6}));
  EXPECT_FALSE(range.contains(GlobalBlock{7}));
  EXPECT_FALSE((BlockRange{GlobalBlock{4}, 0}).contains(GlobalBlock{4}));
}

}  // namespace
}  // namespace powerprefill
