// Tests for test_harness.py, which runs them on three ranks: those of Fails have to fail, each by
// what its name says.
#include <thread>

#include "support/mpi_test.hpp"

namespace powerprefill::test {
namespace {

bool on_rank_1() {
  return world().rank() == 1;
}

TEST(Passes, OnAllRanks) {
  EXPECT_EQ(world().sum(std::int64_t{1}), world().size());
  expect_error(ErrorCode::input, "text", [] { throw Error(ErrorCode::input, "a text"); });
  expect_agreed(world(), ErrorCode::input, 1, "text", [] {
    world().agree([] {
      if (on_rank_1()) throw Error(ErrorCode::input, "a text");
    });
  });
}

TEST(Skips, OnAllRanks) {
  GTEST_SKIP() << "as told";
}

TEST(Fails, CheckOfAllRanks) {
  EXPECT_EQ(world().size(), 0);
}

TEST(Fails, CheckOfRank0) {
  EXPECT_NE(world().rank(), 0);
}

TEST(Fails, CheckOfRank1) {
  EXPECT_NE(world().rank(), 1);
  world().barrier();  // the check did not throw
}

TEST(Fails, CheckOfAThreadOfRank1) {
  std::thread([] { EXPECT_FALSE(on_rank_1()); }).join();
}

TEST(Fails, SkippedOnRank1) {
  if (on_rank_1()) GTEST_SKIP() << "alone";
}

TEST(Fails, ErrorIsMissing) {
  expect_error(ErrorCode::input, "text", [] {});
}

TEST(Fails, ErrorHasAnotherCode) {
  expect_error(ErrorCode::input, "text", [] { throw Error(ErrorCode::cache, "text"); });
}

TEST(Fails, ErrorHasAnotherText) {
  expect_error(ErrorCode::input, "text", [] { throw Error(ErrorCode::input, "tex"); });
}

TEST(Fails, AgreedErrorIsMissingOnRank1) {
  expect_agreed(world(), ErrorCode::input, 0, "text", [] {
    if (!on_rank_1()) throw Error::agreed(ErrorCode::input, "text", 0);
  });
}

TEST(Fails, AgreedErrorIsNone) {
  expect_agreed(world(), ErrorCode::input, kAnyRank, "text",
                [] { throw Error(ErrorCode::input, "text"); });
}

TEST(Fails, AgreedErrorHasAnotherCodeOnRank1) {
  expect_agreed(world(), ErrorCode::input, 0, "text", [] {
    throw Error::agreed(on_rank_1() ? ErrorCode::cache : ErrorCode::input, "text", 0);
  });
}

TEST(Fails, AgreedErrorIsOfAnotherRank) {
  expect_agreed(world(), ErrorCode::input, 0, "text",
                [] { throw Error::agreed(ErrorCode::input, "text", 1); });
}

TEST(Fails, AgreedErrorHasAnotherMessageOnRank1) {
  expect_agreed(world(), ErrorCode::input, kAnyRank, "text", [] {
    throw Error::agreed(ErrorCode::input, on_rank_1() ? "another text" : "a text", 0);
  });
}

TEST(Fails, AgreedErrorIsOfAnotherRankOnRank1) {
  expect_agreed(world(), ErrorCode::input, kAnyRank, "text",
                [] { throw Error::agreed(ErrorCode::input, "text", on_rank_1() ? 1 : 0); });
}

TEST(Throws, OnRank1) {
  if (on_rank_1()) throw std::runtime_error("thrown by one rank");
  world().barrier();  // does not end
}

TEST(Throws, AnInt) {
  if (on_rank_1()) throw 1;
  world().barrier();
}

}  // namespace
}  // namespace powerprefill::test
