#include "math/rows/rope.hpp"

#include <algorithm>
#include <cmath>

#include "base/checked.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

RopeTable::RopeTable(ThreadPool& pool, std::span<const float> inv_freq, float attention_scaling,
                     std::int64_t first, std::int64_t count)
    : first_(first),
      half_(static_cast<std::int64_t>(inv_freq.size())),
      cosine_(checked_mul(count, half_)),
      sine_(checked_mul(count, half_)) {
  constexpr std::int64_t positions_per_task = 512;
  pool.run(ceil_div(count, positions_per_task), [&](std::int64_t task, int) {
    const std::int64_t end = std::min(count, (task + 1) * positions_per_task);
    for (std::int64_t p = task * positions_per_task; p < end; ++p) {
      for (std::int64_t i = 0; i < half_; ++i) {
        const float angle = inv_freq[static_cast<std::size_t>(i)] * static_cast<float>(first + p);
        const auto at = static_cast<std::size_t>(p * half_ + i);
        cosine_[at] = static_cast<float>(std::cos(static_cast<double>(angle))) * attention_scaling;
        sine_[at] = static_cast<float>(std::sin(static_cast<double>(angle))) * attention_scaling;
      }
    }
  });
}

void RopeTable::turn(std::int64_t position, const float* head, std::int64_t head_dim,
                     float* out) const {
  rotate_pairs(head, row(cosine_, position), row(sine_, position), 2 * half_, out);
  if (head != out) std::copy(head + 2 * half_, head + head_dim, out + 2 * half_);
}

}  // namespace powerprefill
