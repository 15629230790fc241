#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "powerprefill/decode.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill {
namespace {

std::vector<std::int32_t> draw(const Sampling& sampling, std::span<const float> logits, int count) {
  Sampler sampler(sampling);
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(sampler.next(logits));
  return tokens;
}

// Pearson's statistic of the draws against the probabilities; ids without probability must not
// occur.
double chi_squared(const std::vector<std::int32_t>& tokens, std::span<const double> probability) {
  std::vector<double> seen(probability.size(), 0);
  for (const std::int32_t token : tokens) ++seen[static_cast<std::size_t>(token)];
  double statistic = 0;
  for (std::size_t i = 0; i < probability.size(); ++i) {
    const double expected = probability[i] * static_cast<double>(tokens.size());
    if (probability[i] == 0) {
      EXPECT_EQ(seen[i], 0) << "token " << i;
    } else {
      statistic += (seen[i] - expected) * (seen[i] - expected) / expected;
    }
  }
  return statistic;
}

TEST(Sampler, GreedyTakesTheLargest) {
  const std::vector<float> logits = {-3, 2, 7.5F, 7.25F, -1};
  EXPECT_EQ(draw({}, logits, 3), (std::vector<std::int32_t>{2, 2, 2}));
  EXPECT_EQ(draw({.temperature = 0, .top_p = 0.1, .seed = 9}, logits, 1).front(), 2);
  const std::vector<float> negative = {-9, -8, -7};
  EXPECT_EQ(draw({}, negative, 1).front(), 2);
}

TEST(Sampler, GreedyTiesGoToTheLowestId) {
  const std::vector<float> logits = {1, 5, 3, 5, 5};
  EXPECT_EQ(draw({}, logits, 1).front(), 1);
  const std::vector<float> equal(1000, 0.25F);
  EXPECT_EQ(draw({}, equal, 1).front(), 0);
  const std::vector<float> zeros = {-0.0F, 0.0F};
  EXPECT_EQ(draw({}, zeros, 1).front(), 0);
}

TEST(Sampler, ALowTemperatureIsGreedyWithoutOverflow) {
  const std::vector<float> logits = {-1e30F, 88, 89, 1e30F, 0};
  for (const double temperature : {1e-3, 1e-300, std::numeric_limits<double>::denorm_min()}) {
    for (const std::int32_t token : draw({.temperature = temperature}, logits, 20)) {
      EXPECT_EQ(token, 3);
    }
  }
}

TEST(Sampler, FrequenciesFollowTheSoftmax) {
  const std::vector<float> logits = {0.5F, -1, 2, 0, 1.25F};
  for (const double temperature : {0.5, 1.0, 2.0}) {
    std::vector<double> probability;
    for (const float l : logits) {
      probability.push_back(std::exp(static_cast<double>(l) / temperature));
    }
    const double total = std::accumulate(probability.begin(), probability.end(), 0.0);
    for (double& p : probability) p /= total;
    for (const std::uint64_t seed : {0U, 1U, 12345U}) {
      const auto tokens =
          draw({.temperature = temperature, .top_p = 1, .seed = seed}, logits, 20000);
      // 4 degrees of freedom: beyond 23.5 once in 10^4; the seeds are fixed.
      EXPECT_LT(chi_squared(tokens, probability), 23.5) << temperature << " " << seed;
    }
  }
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesIt) {
  // Probabilities 0.1, 0.4, 0.2, 0.3.
  std::vector<float> logits;
  for (const double p : {0.1, 0.4, 0.2, 0.3}) logits.push_back(static_cast<float>(std::log(p)));
  struct Row {
    double top_p;
    std::array<double, 4> probability;
  };
  const std::vector<Row> rows = {{1e-9, {0, 1, 0, 0}},
                                 {0.39, {0, 1, 0, 0}},
                                 {0.41, {0, 4.0 / 7, 0, 3.0 / 7}},
                                 {0.69, {0, 4.0 / 7, 0, 3.0 / 7}},
                                 {0.71, {0, 4.0 / 9, 2.0 / 9, 3.0 / 9}},
                                 {0.91, {0.1, 0.4, 0.2, 0.3}},
                                 {1.0, {0.1, 0.4, 0.2, 0.3}}};
  for (const Row& row : rows) {
    const auto tokens = draw({.temperature = 1, .top_p = row.top_p, .seed = 7}, logits, 20000);
    EXPECT_LT(chi_squared(tokens, row.probability), 21.2) << row.top_p;  // 3 degrees, 10^-4
  }
}

TEST(Sampler, TopPCutsEqualOnesByTheLowestId) {
  const std::vector<float> logits(8, 1.0F);  // 1/8 each, exact
  for (const std::int32_t token :
       draw({.temperature = 1, .top_p = 0.375, .seed = 3}, logits, 500)) {
    EXPECT_LT(token, 3);
  }
}

TEST(Sampler, TheSameSeedDrawsTheSame) {
  std::vector<float> logits(5000);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i * i));
  const Sampling sampling = {.temperature = 0.8, .top_p = 0.95, .seed = 42};
  const auto first = draw(sampling, logits, 100);
  EXPECT_EQ(draw(sampling, logits, 100), first);
  Sampling other = sampling;
  other.seed = 43;
  EXPECT_NE(draw(other, logits, 100), first);
}

TEST(Sampler, NeverLeavesTheVocabulary) {
  const std::vector<float> one = {-5};
  EXPECT_EQ(draw({.temperature = 1.5, .top_p = 0.5, .seed = 1}, one, 3),
            (std::vector<std::int32_t>{0, 0, 0}));
  const std::vector<float> masked = {-std::numeric_limits<float>::infinity(), 0,
                                     -std::numeric_limits<float>::infinity(), 0};
  for (const std::int32_t token : draw({.temperature = 1, .top_p = 1, .seed = 5}, masked, 1000)) {
    EXPECT_EQ(token % 2, 1);
  }
}

TEST(Sampler, OptionsOutOfRangeAreRefused) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const double temperature : {-1e-9, -1.0, nan, infinity, -infinity}) {
    try {
      Sampler sampler({.temperature = temperature});
      ADD_FAILURE() << temperature;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::usage);
    }
  }
  for (const double top_p : {0.0, -0.5, 1.0000001, 2.0, nan, infinity}) {
    try {
      Sampler sampler({.temperature = 1, .top_p = top_p});
      ADD_FAILURE() << top_p;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::usage);
    }
  }
}

}  // namespace
}  // namespace powerprefill
