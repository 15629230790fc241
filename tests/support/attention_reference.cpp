#include "support/attention_reference.hpp"

#include <algorithm>
#include <cmath>

namespace powerprefill {

namespace {

double inner(const float* a, const float* b, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// The relative error of one weighted sum over the keys, see the header.
double relative_bound(std::int64_t d, double largest_product, std::int64_t keys,
                      std::int64_t merges) {
  constexpr double u = 0x1p-24;
  const double weight = static_cast<double>(d + 2) * largest_product + 2 * largest_product + 2 +
                        static_cast<double>(merges) * (2 * largest_product + 4);
  return u * (weight + static_cast<double>(keys));
}

}  // namespace

ReferenceResult attention_reference(const ReferenceShape& shape, std::span<const float> q,
                                    std::span<const float> k, std::span<const float> v,
                                    const BlockMask& attends, std::int64_t largest_tile) {
  const std::int64_t d = shape.head_dim;
  const double scale = 1 / std::sqrt(static_cast<double>(d));
  const std::int64_t tiles_per_block = (shape.block + largest_tile - 1) / largest_tile;
  const auto size = static_cast<std::size_t>(shape.tokens * shape.heads * d);
  ReferenceResult result{std::vector<double>(size, 0.0), std::vector<double>(size, 0.0)};

  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    std::vector<std::int64_t> keys;  // that token t sees
    std::int64_t merges = 0;
    for (std::int64_t b = 0; b <= t / shape.block; ++b) {
      if (!attends(t / shape.block, b)) continue;
      merges += tiles_per_block;
      for (std::int64_t j = b * shape.block; j < std::min(t + 1, (b + 1) * shape.block); ++j) {
        keys.push_back(j);
      }
    }
    if (keys.empty()) continue;
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      const std::int64_t g = h / (shape.heads / shape.kv_heads);
      const float* query = q.data() + (t * shape.heads + h) * d;
      std::vector<double> weight;
      double largest_norm = 0;
      for (const std::int64_t j : keys) {
        const float* key = k.data() + (j * shape.kv_heads + g) * d;
        weight.push_back(inner(query, key, d) * scale);
        largest_norm = std::max(largest_norm, std::sqrt(inner(key, key, d)));
      }
      const double maximum = *std::max_element(weight.begin(), weight.end());
      double sum = 0;
      for (double& w : weight) sum += w = std::exp(w - maximum);

      double* out = result.out.data() + (t * shape.heads + h) * d;
      double* bound = result.bound.data() + (t * shape.heads + h) * d;
      for (std::size_t n = 0; n < keys.size(); ++n) {
        const float* value = v.data() + (keys[n] * shape.kv_heads + g) * d;
        for (std::int64_t i = 0; i < d; ++i) {
          out[i] += weight[n] / sum * static_cast<double>(value[i]);
          bound[i] += weight[n] / sum * std::fabs(static_cast<double>(value[i]));
        }
      }
      const double relative =
          2.2 * relative_bound(d, std::sqrt(inner(query, query, d)) * largest_norm * scale,
                               static_cast<std::int64_t>(keys.size()), merges) +
          0x1p-24;
      for (std::int64_t i = 0; i < d; ++i) bound[i] *= relative;
    }
  }
  return result;
}

}  // namespace powerprefill
