// The text of a schedule, as a cache file stores it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <numeric>

#include "powerprefill/pattern.hpp"

namespace powerprefill {
namespace {

PatternSpec mask_of(std::size_t distances) {
  PatternSpec spec = default_spec("mask");
  spec.distances.resize(distances);
  std::iota(spec.distances.begin(), spec.distances.end(), 0);
  return spec;
}

void expect_refused(ErrorCode code, const std::string& word, const std::function<void()>& act) {
  try {
    act();
    ADD_FAILURE() << "not refused: " << word;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
  }
}

TEST(ScheduleText, NamesEachLayerAsLongAsThatFits) {
  const Schedule schedule = {.block = 8, .layers = {default_spec("power"), default_spec("full")}};
  EXPECT_EQ(to_json(schedule),
            R"({"block":8,"layers":[{"pattern":"power","window":5,"sink":1},{"pattern":"full"}]})");
  // The longest one: 27 bytes around the layers, 45 + 1 around the distances of each, no comma
  // behind the last.
  Schedule long_one = {.block = 8, .layers = std::vector<PatternSpec>(30, mask_of(540))};
  const std::string text = to_json(long_one);
  EXPECT_LE(text.size(), kLongestSchedule);
  EXPECT_EQ(text.find("patterns"), std::string::npos);
  EXPECT_EQ(schedule_from_json(text), long_one);
}

TEST(ScheduleText, NamesEachPatternOnceBeyond) {
  Schedule schedule = {.block = 256, .layers = std::vector<PatternSpec>(60, mask_of(500))};
  schedule.layers[7] = default_spec("full");
  schedule.layers[9] = default_spec("power");
  schedule.layers[59] = default_spec("full");
  const std::string text = to_json(schedule);
  EXPECT_LT(text.size(), 4000U);
  EXPECT_TRUE(text.starts_with(R"({"block":256,"patterns":[{"pattern":"mask","sink":0,)")) << text;
  EXPECT_EQ(schedule_from_json(text), schedule);
  EXPECT_EQ(to_json(schedule_from_json(text)), text);
  check_schedule(schedule);
}

TEST(ScheduleText, WhatNoFileHoldsIsRefused) {
  const Schedule schedule = {.block = 256, .layers = {mask_of(20000)}};
  expect_refused(ErrorCode::usage, "fewer distances", [&] { check_schedule(schedule); });
  for (const std::int64_t block : {std::int64_t{0}, kLargestBlock + 1}) {
    expect_refused(ErrorCode::usage, "block",
                   [&] { check_schedule({.block = block, .layers = {}}); });
  }
}

TEST(ScheduleText, DamageIsRefused) {
  const auto with_layer = [](const char* layer) {
    return fmt::format(R"({{"block":8,"patterns":[{{"pattern":"full"}}],"layers":[{}]}})", layer);
  };
  const std::string texts[] = {
      R"({"block":8,"patterns":[],"layers":[0]})",
      with_layer("1"),
      with_layer("-1"),
      with_layer("0.5"),
      with_layer("18446744073709551615"),
      R"({"block":18446744073709551615,"layers":[]})",
      R"({"block":8,"layers":[{"pattern":"power","window":9223372036854775808}]})",
      R"({"block":8,"layers":0})",
      std::string(200000, '['),
      "{\"block\":8,\"layers\":[{\"pattern\":\"\xFF\"}]}",
  };
  EXPECT_EQ(schedule_from_json(with_layer("0")).layers, std::vector{default_spec("full")});
  for (const std::string& text : texts) {
    expect_refused(ErrorCode::cache, "cannot be used", [&] { schedule_from_json(text); });
  }
}

TEST(ScheduleText, AShortTextDoesNotBecomeALargeSchedule) {
  std::string layers = "0";
  for (int i = 1; i < 9999; ++i) layers += ",0";
  std::string distances = "0";
  for (int i = 1; i < 8000; ++i) distances += fmt::format(",{}", i);
  expect_refused(ErrorCode::cache, "too many distances", [&] {
    schedule_from_json(R"({"block":8,"patterns":[{"pattern":"mask","distances":[)" + distances +
                       "]}],\"layers\":[" + layers + "]}");
  });
}

// The largest parameters do not overflow anywhere.
TEST(PatternParameters, MayBeAsLargeAsTheyAre) {
  for (const char* name : {"power", "sliding", "stride", "dilated", "mask"}) {
    PatternSpec spec = default_spec(name);
    spec.window = spec.stride = kLargestDistance;
    spec.sink = 0;
    if (spec.name == "mask") spec.distances = {0, kLargestDistance};
    const auto pattern = make_pattern(spec);
    const std::int64_t query = std::int64_t{1} << 40;
    EXPECT_TRUE(pattern->attends(query, query));
    EXPECT_FALSE(pattern->attends(query, query - kLargestDistance - 2)) << name;
    EXPECT_EQ(pattern->key_blocks(3).front(), 3);
    check_schedule({.block = 8, .layers = {spec}});
    spec.window = spec.stride = kLargestDistance + 1;
    expect_refused(ErrorCode::usage, "2147483647",
                   [&] { check_schedule({.block = 8, .layers = {spec}}); });
    spec.window = spec.stride = std::numeric_limits<std::int64_t>::max();
    EXPECT_EQ(make_pattern(spec)->key_blocks(1000).front(), 1000);
  }
}

}  // namespace
}  // namespace powerprefill
