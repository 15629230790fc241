#include "pattern/receptive_field.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <numeric>

namespace powerprefill {
namespace {

// What each of the layers (the bottom one first) leaves of "block j is seen by the query", from
// attends() alone, as the least number of layers.
std::vector<std::int64_t> brute_force(const std::vector<PatternSpec>& layers, std::int64_t query) {
  std::vector<std::int64_t> least(static_cast<std::size_t>(query) + 1, -1);
  least.back() = 0;
  for (std::size_t n = layers.size(); n-- > 0;) {
    const auto pattern = make_pattern(layers[n]);
    const std::vector<std::int64_t> before = least;
    for (std::int64_t i = 0; i <= query; ++i) {
      if (before[static_cast<std::size_t>(i)] < 0) continue;
      for (std::int64_t j = 0; j <= i; ++j) {
        std::int64_t& layer = least[static_cast<std::size_t>(j)];
        if (layer < 0 && pattern->attends(i, j)) {
          layer = static_cast<std::int64_t>(layers.size() - n);
        }
      }
    }
  }
  return least;
}

std::vector<std::int64_t> brute_force(const PatternSpec& spec, std::int64_t query) {
  return brute_force(std::vector<PatternSpec>(static_cast<std::size_t>(query), spec), query);
}

ReceptiveField last_of(const PatternSpec& spec, std::int64_t blocks) {
  return receptive_field(*make_pattern(spec), blocks - 1);
}

PatternSpec stride_spec(std::int64_t stride) {
  PatternSpec spec = default_spec("stride");
  spec.stride = stride;
  return spec;
}

TEST(ReceptiveField, IsThatOfABruteForce) {
  for (const std::string& name : pattern_names()) {
    for (const std::int64_t blocks : {1, 2, 3, 17, 128, 150}) {
      const PatternSpec spec = default_spec(name);
      const ReceptiveField field = last_of(spec, blocks);
      EXPECT_EQ(field.layers_to, brute_force(spec, blocks - 1)) << name << " blocks " << blocks;
      EXPECT_EQ(field.query(), blocks - 1);
      const std::int64_t reached = field.reached.back();
      EXPECT_EQ(reached + static_cast<std::int64_t>(field.unreached().size()), blocks);
      EXPECT_EQ(field.layers_to_cover() < 0, reached < blocks);
    }
  }
}

TEST(ReceptiveField, OfAScheduleStartsAtItsTop) {
  const PatternSpec power = default_spec("power");
  const PatternSpec sliding = default_spec("sliding");
  const PatternSpec dilated = default_spec("dilated");
  for (const std::vector<PatternSpec>& layers :
       std::vector<std::vector<PatternSpec>>{{},
                                             {power, sliding},
                                             {sliding, power},
                                             {dilated, power, dilated, sliding, dilated},
                                             {sliding, dilated, sliding, sliding, power, dilated},
                                             {default_spec("full"), sliding, sliding}}) {
    const ReceptiveField field = receptive_field(layers, 99);
    EXPECT_EQ(field.layers_to, brute_force(layers, 99));
    ASSERT_EQ(field.reached.size(), layers.size() + 1);
    for (std::size_t k = 0; k < field.reached.size(); ++k) {
      const auto& to = field.layers_to;
      EXPECT_EQ(field.reached[k], std::count_if(to.begin(), to.end(), [&](std::int64_t layer) {
                  return layer >= 0 && layer <= static_cast<std::int64_t>(k);
                }));
    }
  }
}

TEST(ReceptiveField, SlidingReaches10Of128InOneStep) {
  const ReceptiveField field = last_of(default_spec("sliding"), 128);
  for (std::int64_t block = 0; block < 127; ++block) {
    EXPECT_EQ(field.layers_to[static_cast<std::size_t>(block)] == 1, block == 0 || block >= 119);
  }
  EXPECT_EQ(field.reached[1], 10);
  EXPECT_EQ(field.layers_to_cover(), 16);  // 126 blocks, 8 a layer: linear
  EXPECT_DOUBLE_EQ(field.covered(1), 9.0 / 127);
  EXPECT_DOUBLE_EQ(field.covered(16), 1);
  EXPECT_DOUBLE_EQ(field.covered(100), 1);
}

TEST(ReceptiveField, DilatedNeverReachesOddDistances) {
  const ReceptiveField field = last_of(default_spec("dilated"), 128);
  for (std::int64_t block = 0; block < 128; ++block) {
    EXPECT_EQ(field.layers_to[static_cast<std::size_t>(block)] < 0, (127 - block) % 2 == 1);
  }
  EXPECT_EQ(field.layers_to_cover(), -1);
  EXPECT_EQ(field.unreached().size(), 64u);
}

TEST(ReceptiveField, LongNetHasHoles) {
  const ReceptiveField last = last_of(default_spec("longnet"), 128);
  std::vector<std::int64_t> holes;
  const std::vector<std::int64_t> least = brute_force(default_spec("longnet"), 127);
  for (std::int64_t block = 0; block < 128; ++block) {
    if (least[static_cast<std::size_t>(block)] < 0) holes.push_back(block);
  }
  EXPECT_EQ(last.unreached(), holes);
  EXPECT_EQ(last.layers_to_cover(), -1);
  EXPECT_GT(holes.size(), 0u);
}

TEST(ReceptiveField, StrideNeedsItsRemainder) {
  // One step along the stride, and ceil(31 / 5) steps of the window: constant in the length.
  for (const std::int64_t blocks : {256, 1024, 4096}) {
    EXPECT_EQ(last_of(stride_spec(32), blocks).layers_to_cover(), 8) << blocks;
  }
  // At a stride of sqrt n, which keeps the budget at sqrt n, the remainder grows like sqrt n.
  for (const std::int64_t root : {8, 16, 32, 64}) {
    const std::int64_t layers = last_of(stride_spec(root), root * root).layers_to_cover();
    EXPECT_EQ(layers, 1 + (root - 1 + 4) / 5) << root;
  }
}

TEST(ReceptiveField, PowerNeedsAsManyLayersAsTheDistanceHasBits) {
  const auto bare = make_pattern({.name = "power", .window = 1, .sink = 0});
  for (const std::int64_t query : {0, 1, 2, 3, 100, 127, 511, 1000, 2047, 4095}) {
    const ReceptiveField field = receptive_field(*bare, query);
    for (std::int64_t block = 0; block <= query; ++block) {
      const auto distance = static_cast<std::uint64_t>(query - block);
      ASSERT_EQ(field.layers_to[static_cast<std::size_t>(block)], std::popcount(distance));
    }
  }
}

TEST(ReceptiveField, PowerHasNoHoleAtAnyLength) {
  const auto power = make_pattern(default_spec("power"));
  for (std::int64_t query = 0; query < 4096; ++query) {
    const ReceptiveField field = receptive_field(*power, query);
    for (std::int64_t block = 0; block <= query; ++block) {
      const std::int64_t layers = field.layers_to[static_cast<std::size_t>(block)];
      ASSERT_GE(layers, block < query ? 1 : 0);
      ASSERT_LE(layers, std::popcount(static_cast<std::uint64_t>(query - block)));
    }
  }
}

TEST(PairCount, IsThePapers) {
  const auto power = make_pattern(default_spec("power"));
  EXPECT_EQ(power->key_blocks(127).size(), 10u);
  EXPECT_NEAR(count_pairs(*power, 512).per_block(), 11.0, 0.05);
  const auto full = make_pattern(default_spec("full"));
  EXPECT_DOUBLE_EQ(count_pairs(*full, 512).per_block(), 256.5);
  EXPECT_DOUBLE_EQ(count_pairs(*full, 512).density(), 1);
  EXPECT_NEAR(count_pairs(*full, 512).per_block() / count_pairs(*power, 512).per_block(), 23.37,
              0.005);
  for (const std::string& name : pattern_names()) {
    const auto pattern = make_pattern(default_spec(name));
    std::int64_t pairs = 0;
    for (std::int64_t i = 0; i < 140; ++i) {
      for (std::int64_t j = 0; j <= i; ++j) pairs += pattern->attends(i, j) ? 1 : 0;
    }
    EXPECT_EQ(count_pairs(*pattern, 140).pairs, pairs) << name;
    EXPECT_EQ(count_pairs(*pattern, 140).causal(), 140 * 141 / 2);
  }
}

}  // namespace
}  // namespace powerprefill
