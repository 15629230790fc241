#include "model/rope_frequencies.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace powerprefill {

namespace {

// The nearest float32, as a double. A sum, difference, product or quotient of two float32 values
// taken in double and then rounded is the same as float32 arithmetic, and no compiler can contract
// it into a fused multiply-add.
double f32(double value) {
  return static_cast<double>(static_cast<float>(value));
}

// theta^(2 i / D) for each pair i.
std::vector<double> periods(const RopeParameters& rope, std::int64_t head_dim) {
  std::vector<double> result;
  const double theta = f32(rope.theta);
  for (std::int64_t i = 0; i < head_dim; i += 2) {
    const double exponent = f32(static_cast<double>(i) / static_cast<double>(head_dim));
    result.push_back(f32(std::pow(theta, exponent)));
  }
  return result;
}

// Long wavelengths are divided by `factor`, short ones stay, those between are blended. PyTorch
// divides a scalar by a tensor as scalar x (1 / tensor).
double llama3_frequency(const RopeParameters& rope, double frequency) {
  const auto old_length = static_cast<double>(rope.original_max_positions);
  const double low = rope.low_freq_factor;
  const double high = rope.high_freq_factor;
  const double wavelength = f32(f32(2 * std::numbers::pi) * f32(1.0 / frequency));
  if (wavelength > f32(old_length / low)) return f32(frequency / f32(rope.factor));
  if (wavelength < f32(old_length / high)) return frequency;
  const double turns = f32(f32(old_length) * f32(1.0 / wavelength));
  const double smooth = f32(f32(turns - f32(low)) / f32(high - low));
  const double slowed = f32(f32(f32(1.0 - smooth) * frequency) / f32(rope.factor));
  return f32(slowed + f32(smooth * frequency));
}

// The pairs between which YaRN goes over from extrapolation to interpolation: those that turn
// beta_fast and beta_slow times within the original length.
std::pair<double, double> yarn_range(const RopeParameters& rope, std::int64_t head_dim) {
  const auto dim = static_cast<double>(head_dim);
  const auto pair_of = [&](double turns) {
    const double length = static_cast<double>(rope.original_max_positions);
    return dim * std::log(length / (turns * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
  };
  double low = pair_of(rope.beta_fast);
  double high = pair_of(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  return {low, high};
}

double yarn_magnitude(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double yarn_attention(const RopeParameters& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.mscale && rope.mscale_all_dim) {
    return yarn_magnitude(rope.factor, *rope.mscale) /
           yarn_magnitude(rope.factor, *rope.mscale_all_dim);
  }
  return yarn_magnitude(rope.factor, 1.0);
}

std::vector<float> yarn_frequencies(const RopeParameters& rope, std::int64_t head_dim) {
  const auto [low, high] = yarn_range(rope, head_dim);
  std::vector<float> result;
  double pair = 0;
  for (const double period : periods(rope, head_dim)) {
    const double kept = f32(1.0 / period);
    const double slowed = f32(1.0 / f32(f32(rope.factor) * period));
    const double ramp = std::clamp(f32(f32(pair - f32(low)) / f32(high - low)), 0.0, 1.0);
    const double share = f32(1.0 - ramp);  // of the frequency that is kept
    const double blend = f32(slowed * f32(1.0 - share)) + f32(kept * share);
    result.push_back(static_cast<float>(blend));
    pair += 1;
  }
  return result;
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeParameters& rope, std::int64_t head_dim) {
  RopeFrequencies result;
  if (rope.type == "yarn") {
    result.inv_freq = yarn_frequencies(rope, head_dim);
    result.attention_scaling = static_cast<float>(yarn_attention(rope));
    return result;
  }
  for (const double period : periods(rope, head_dim)) {
    double frequency = f32(1.0 / period);
    if (rope.type == "linear") frequency = f32(frequency / f32(rope.factor));
    if (rope.type == "llama3") frequency = llama3_frequency(rope, frequency);
    result.inv_freq.push_back(static_cast<float>(frequency));
  }
  return result;
}

}  // namespace powerprefill
