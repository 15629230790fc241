#include <gtest/gtest.h>

#include <limits>

#include "pattern/registry.hpp"

namespace powerprefill {
namespace {

PatternSpec spec_of(const std::string& name, std::int64_t window = 5, std::int64_t sink = 1) {
  PatternSpec spec = {.name = name, .window = window, .sink = sink};
  if (name == "stride") spec.stride = 7;
  if (name == "mask") spec.distances = {0, 2, 9, 31};
  return spec;
}

// Algorithm 1, condition by condition, for one pair of blocks.
bool algorithm_1(std::int64_t i, std::int64_t j, std::int64_t window, std::int64_t sink) {
  if (j < 0 || j > i) return false;
  const std::int64_t distance = i - j;
  const bool is_sink = j < sink;
  const bool is_local = distance < window;
  const bool is_power = (distance & (distance - 1)) == 0;
  return is_sink || is_local || is_power;
}

bool sliding_window(std::int64_t i, std::int64_t j, std::int64_t window, std::int64_t sink) {
  return j >= 0 && j <= i && (i - j < window || j < sink);
}

constexpr std::int64_t kBlocks = 300;

TEST(Pattern, PowerIsAlgorithm1) {
  for (const std::int64_t window : {1, 2, 3, 5, 9, 64, 400}) {
    for (const std::int64_t sink : {0, 1, 2, 7, 300}) {
      const auto pattern = make_pattern(spec_of("power", window, sink));
      for (std::int64_t i = 0; i < kBlocks; ++i) {
        for (std::int64_t j = -2; j < i + 3; ++j) {
          ASSERT_EQ(pattern->attends(i, j), algorithm_1(i, j, window, sink))
              << "i " << i << " j " << j << " window " << window << " sink " << sink;
        }
      }
    }
  }
}

TEST(Pattern, SlidingIsAppendixD) {
  for (const std::int64_t window : {1, 2, 9, 400}) {
    for (const std::int64_t sink : {0, 1, 4}) {
      const auto pattern = make_pattern(spec_of("sliding", window, sink));
      for (std::int64_t i = 0; i < kBlocks; ++i) {
        for (std::int64_t j = -2; j < i + 3; ++j) {
          ASSERT_EQ(pattern->attends(i, j), sliding_window(i, j, window, sink))
              << "i " << i << " j " << j << " window " << window << " sink " << sink;
        }
      }
    }
  }
}

TEST(Pattern, FullIsCausal) {
  const auto pattern = make_pattern(spec_of("full"));
  for (std::int64_t i = 0; i < kBlocks; ++i) {
    for (std::int64_t j = -2; j < i + 3; ++j) ASSERT_EQ(pattern->attends(i, j), j >= 0 && j <= i);
  }
}

TEST(Pattern, KeyBlocksAreThoseAttendedDescending) {
  for (const std::string& name : pattern_names()) {
    for (const std::int64_t window : {1, 2, 3, 4, 5, 8, 17, 299, 1000}) {
      for (const std::int64_t sink : {0, 1, 2, 3, 16, 299, 1000}) {
        const auto pattern = make_pattern(spec_of(name, window, sink));
        for (std::int64_t i = 0; i < kBlocks; ++i) {
          std::vector<std::int64_t> expected;
          for (std::int64_t j = i; j >= 0; --j) {
            if (pattern->attends(i, j)) expected.push_back(j);
          }
          ASSERT_EQ(pattern->key_blocks(i), expected)
              << name << " window " << window << " sink " << sink << " block " << i;
          ASSERT_EQ(expected.front(), i);
        }
      }
    }
  }
}

TEST(Pattern, SinkBlocksAreAttendedByAllLaterOnes) {
  for (const std::string& name : pattern_names()) {
    for (const std::int64_t sink : {0, 1, 5}) {
      const auto pattern = make_pattern(spec_of(name, 2, sink));
      for (std::int64_t j = 0; j < pattern->sink(); ++j) {
        for (std::int64_t i = j; i < kBlocks; ++i) ASSERT_TRUE(pattern->attends(i, j)) << name;
      }
      const PatternKind* kind = find_pattern_kind(name);
      ASSERT_NE(kind, nullptr);
      EXPECT_EQ(pattern->sink(), kind->has.sink ? sink : 0) << name;
    }
  }
}

TEST(Pattern, PaperFigures) {
  const auto power = make_pattern(spec_of("power"));
  EXPECT_EQ(power->key_blocks(127),
            (std::vector<std::int64_t>{127, 126, 125, 124, 123, 119, 111, 95, 63, 0}));
  std::size_t pairs = 0;
  for (std::int64_t i = 0; i < 512; ++i) pairs += power->key_blocks(i).size();
  EXPECT_NEAR(static_cast<double>(pairs) / 512, 11.0, 0.1);

  // Appendix A: 1 and 120..128, counted from 1.
  const auto sliding = make_pattern(spec_of("sliding", 9, 1));
  EXPECT_EQ(sliding->key_blocks(127),
            (std::vector<std::int64_t>{127, 126, 125, 124, 123, 122, 121, 120, 119, 0}));
}

// Appendix B: any block is reached in at most popcount(i - j) steps, so 9 layers see 512 blocks.
TEST(Pattern, PowerReachesEverythingInLogarithmicallyManyLayers) {
  const auto power = make_pattern(spec_of("power", 1, 0));
  std::vector<char> reached(512, 0);
  reached[511] = 1;
  for (int layer = 0; layer < 9; ++layer) {
    std::vector<char> next = reached;
    for (std::int64_t i = 0; i < 512; ++i) {
      if (reached[static_cast<std::size_t>(i)] == 0) continue;
      for (const std::int64_t j : power->key_blocks(i)) next[static_cast<std::size_t>(j)] = 1;
    }
    reached = next;
  }
  EXPECT_EQ(std::count(reached.begin(), reached.end(), 1), 512);
}

TEST(Pattern, FarBlocksCostLittle) {
  const auto power = make_pattern(spec_of("power"));
  const std::int64_t last = std::int64_t{1} << 40;
  const auto keys = power->key_blocks(last);
  EXPECT_EQ(keys.size(), 5U + 37U + 1U);  // distances 8 to 2^39, the sink at distance 2^40
  EXPECT_EQ(keys.back(), 0);
}

void expect_usage_error(const PatternSpec& spec, const std::string& text) {
  try {
    make_pattern(spec);
    ADD_FAILURE() << "nothing was thrown: " << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::usage);
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  }
}

TEST(Pattern, ParametersOutOfRangeAreRefused) {
  constexpr std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
  for (const std::string name : {"power", "sliding"}) {
    expect_usage_error(spec_of(name, 0, 1), "window is 0 blocks");
    expect_usage_error(spec_of(name, -3, 1), "window is -3 blocks");
    expect_usage_error(spec_of(name, lowest, 1), "window is");
    expect_usage_error(spec_of(name, 5, -1), "sink is -1 blocks");
    expect_usage_error(spec_of(name, 5, lowest), "sink is");
    EXPECT_NO_THROW(make_pattern(spec_of(name, 1, 0)));
  }
  EXPECT_NO_THROW(make_pattern(spec_of("full", 0, -1)));  // parameters that it does not have
  expect_usage_error(spec_of("Power"), "unknown attention pattern 'Power'");
  expect_usage_error(spec_of(""),
                     "choose one of power, sliding, stride, dilated, longnet, full, mask");
}

TEST(Schedule, TextRoundTrip) {
  Schedule schedule;
  schedule.block = 128;
  schedule.layers = {spec_of("power", 7, 2), spec_of("full"), spec_of("sliding", 9, 0),
                     spec_of("power", 1, 0)};
  const std::string text = to_json(schedule);
  EXPECT_EQ(
      text,
      R"({"block":128,"layers":[{"pattern":"power","window":7,"sink":2},{"pattern":"full"},)"
      R"({"pattern":"sliding","window":9,"sink":0},{"pattern":"power","window":1,"sink":0}]})");
  EXPECT_EQ(schedule_from_json(text), schedule);
  EXPECT_EQ(to_json(schedule_from_json(text)), text);

  // Parameters that a pattern does not have are not written.
  Schedule other = schedule;
  other.layers[1].window = 77;
  EXPECT_EQ(to_json(other), text);
}

TEST(Schedule, LargeNumbersSurvive) {
  Schedule schedule;
  schedule.block = (std::int64_t{1} << 53) + 1;
  schedule.layers = {spec_of("power", (std::int64_t{1} << 62) + 3, (std::int64_t{1} << 60) + 1)};
  EXPECT_EQ(schedule_from_json(to_json(schedule)), schedule);
}

class DamagedSchedule : public testing::TestWithParam<const char*> {};

TEST_P(DamagedSchedule, IsRefused) {
  try {
    const Schedule schedule = schedule_from_json(GetParam());
    ADD_FAILURE() << "accepted as " << to_json(schedule);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::cache);
    EXPECT_NE(std::string(error.what()).find("attention schedule"), std::string::npos);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Texts, DamagedSchedule,
    testing::Values("", "{", "null", "[]", "5", R"({"block":256})", R"({"layers":[]})",
                    R"({"block":0,"layers":[{"pattern":"full"}]})",
                    R"({"block":-256,"layers":[{"pattern":"full"}]})",
                    R"({"block":"256","layers":[{"pattern":"full"}]})",
                    R"({"block":256.5,"layers":[{"pattern":"full"}]})",
                    R"({"block":1e300,"layers":[{"pattern":"full"}]})",
                    R"({"block":9223372036854775808,"layers":[{"pattern":"full"}]})",
                    R"({"block":256,"layers":5})", R"({"block":256,"layers":null})",
                    R"({"block":256,"layers":{"0":{"pattern":"full"}}})",
                    R"({"block":256,"layers":["full"]})", R"({"block":256,"layers":[{}]})",
                    R"({"block":256,"layers":[{"pattern":7}]})",
                    R"({"block":256,"layers":[{"pattern":"spiral"}]})",
                    R"({"block":256,"layers":[{"pattern":"power","window":0,"sink":1}]})",
                    R"({"block":256,"layers":[{"pattern":"power","window":5,"sink":-1}]})",
                    R"({"block":256,"layers":[{"pattern":"power","window":"5","sink":1}]})",
                    R"({"block":256,"layers":[{"pattern":"power","window":5.5,"sink":1}]})",
                    R"({"block":256,"layers":[{"pattern":"power","window":5,"sink":null}]})",
                    R"({"block":256,"layers":[{"pattern":"full"}])",
                    R"({"block":256,"layers":[{"pattern":"full"}]} x)", "\xff\xfe"));

TEST(Schedule, RefusalOfALongTextIsShort) {
  try {
    schedule_from_json(std::string(1 << 20, '['));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_LT(std::string(error.what()).size(), 1000U);
  }
}

}  // namespace
}  // namespace powerprefill
