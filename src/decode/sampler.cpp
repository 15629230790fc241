#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "powerprefill/decode.hpp"

namespace powerprefill {

namespace {

// splitmix64: a full-period generator whose state is its seed plus a counter.
double next_uniform(std::uint64_t& state) {
  state += 0x9E3779B97F4A7C15U;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1.0p-53;
}

}  // namespace

Sampler::Sampler(const Sampling& sampling) : sampling_(sampling), state_(sampling.seed) {
  if (!(sampling.temperature >= 0) || !std::isfinite(sampling.temperature)) {
    throw Error(ErrorCode::usage,
                fmt::format("temperature {} must be 0 or more, and finite", sampling.temperature));
  }
  if (!(sampling.top_p > 0 && sampling.top_p <= 1)) {
    throw Error(ErrorCode::usage,
                fmt::format("top-p {} must be above 0 and at most 1", sampling.top_p));
  }
}

std::int32_t Sampler::next(std::span<const float> logits) {
  const auto is_number = [](float v) {  // minus infinity rules a token out
    return v < std::numeric_limits<float>::infinity();
  };
  if (!std::all_of(logits.begin(), logits.end(), is_number)) {
    throw Error(ErrorCode::input, "the logits are not finite numbers; check the checkpoint");
  }
  const auto likeliest = std::max_element(logits.begin(), logits.end());
  if (sampling_.temperature == 0) return static_cast<std::int32_t>(likeliest - logits.begin());

  std::vector<double> probability(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    probability[i] = std::exp((static_cast<double>(logits[i]) - static_cast<double>(*likeliest)) /
                              sampling_.temperature);
  }
  const double total = std::accumulate(probability.begin(), probability.end(), 0.0);
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  // Likeliest first; equal ones by id, so that the order is defined.
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return probability[static_cast<std::size_t>(a)] > probability[static_cast<std::size_t>(b)];
  });
  double kept = 0;
  std::size_t count = 0;
  while (count < order.size() && (count == 0 || kept < sampling_.top_p * total)) {
    kept += probability[static_cast<std::size_t>(order[count++])];
  }
  double remaining = next_uniform(state_) * kept;
  for (std::size_t i = 0; i < count; ++i) {
    remaining -= probability[static_cast<std::size_t>(order[i])];
    if (remaining < 0) return order[i];
  }
  return order[count - 1];
}

}  // namespace powerprefill
