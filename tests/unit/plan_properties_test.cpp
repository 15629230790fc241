// Exchange plans of random patterns, prompts and partitions.
#include <gtest/gtest.h>

#include <random>

#include "support/plan_checks.hpp"

namespace powerprefill {
namespace {

class RandomJobs {
 public:
  explicit RandomJobs(std::uint64_t seed) : random_(seed) {}

  // Uniform in [low, high].
  std::int64_t draw(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(high - low + 1));
  }

  PlanJob job(const std::string& name, int ranks, bool zigzag) {
    const std::int64_t block = draw(1, 20);
    return {spec(name), draw(1, 160 * block), block, ranks, draw(1, 5), zigzag};
  }

 private:
  PatternSpec spec(const std::string& name) {
    PatternSpec spec = default_spec(name);
    spec.window = draw(0, 2) == 0 ? draw(1, 170) : draw(1, 7);
    spec.sink = draw(0, 1) == 0 ? draw(0, 3) : draw(0, 60);
    spec.stride = draw(0, 1) == 0 ? draw(1, 9) : draw(10, 200);
    spec.distances = {0};
    for (std::int64_t n = draw(0, 12); n > 0; --n) {
      spec.distances.push_back(spec.distances.back() + (draw(0, 1) == 0 ? 1 : draw(1, 40)));
    }
    return spec;
  }

  std::mt19937_64 random_;
};

TEST(PlanProperties, EveryPatternEveryRankCount) {
  RandomJobs jobs(20250307);
  for (const std::string& name : pattern_names()) {
    for (int ranks = 1; ranks <= 13; ++ranks) {
      for (int n = 0; n < 10; ++n) {
        ASSERT_NO_FATAL_FAILURE(expect_sound(jobs.job(name, ranks, false)));
        ASSERT_NO_FATAL_FAILURE(expect_sound(jobs.job(name, ranks, true)));
      }
    }
  }
}

// As many blocks as ranks or chunks, one more, one fewer: pieces of one block, and empty ones.
TEST(PlanProperties, PiecesOfOneBlockAndEmptyOnes) {
  RandomJobs jobs(19);
  for (const std::string& name : pattern_names()) {
    for (int ranks = 1; ranks <= 13; ++ranks) {
      for (const std::int64_t blocks :
           {ranks - 1, ranks, ranks + 1, 2 * ranks - 1, 2 * ranks, 2 * ranks + 1}) {
        if (blocks < 1) continue;
        PlanJob job = jobs.job(name, ranks, true);
        job.tokens = blocks * job.block - jobs.draw(0, job.block - 1);
        ASSERT_NO_FATAL_FAILURE(expect_sound(job));
      }
    }
  }
}

// Under full attention with a zigzag partition every rank receives what it does not own and its
// last chunk sees: at most a share of half a rank's blocks from each chunk below its last one.
TEST(PlanProperties, HalfSharesOfAFullLayer) {
  for (int ranks = 2; ranks <= 13; ++ranks) {
    const std::int64_t chunk = 3;
    const Plans plans({default_spec("full"), 2 * ranks * chunk * 16, 16, ranks, 1, true});
    for (int r = 0; r < ranks; ++r) {
      const ExchangePlan& plan = plans.plan(r);
      const int last_chunk = 2 * ranks - 1 - r;
      EXPECT_EQ(static_cast<int>(plan.receives.size()), last_chunk - 1);
      for (const Share& share : plan.receives) EXPECT_EQ(share.blocks(), chunk);
    }
  }
}

}  // namespace
}  // namespace powerprefill
