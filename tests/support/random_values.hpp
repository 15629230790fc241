// Random numbers for tests and benches, the same in every run.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace powerprefill {

// Normally distributed with standard deviation `size`.
inline std::vector<float> random_values(std::int64_t count, unsigned seed, float size = 1.0F) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, size);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

}  // namespace powerprefill
