// Cosines and sines of rotary position embedding.
#pragma once

#include <cstdint>
#include <span>

#include "base/aligned_buffer.hpp"
#include "base/thread_pool.hpp"

namespace powerprefill {

// The angles of positions [first, first + count), all layers and heads alike. The angle of pair i
// at position p is float32(inv_freq[i]) x float32(p), rounded to float32, as transformers has it.
class RopeTable {
 public:
  RopeTable() = default;
  RopeTable(ThreadPool& pool, std::span<const float> inv_freq, float attention_scaling,
            std::int64_t first, std::int64_t count);

  // Turns the first 2 x pairs elements of a head, (D), and copies the others to `out`, which may be
  // `head`.
  void turn(std::int64_t position, const float* head, std::int64_t head_dim, float* out) const;
  std::int64_t bytes() const { return static_cast<std::int64_t>(cosine_.bytes() + sine_.bytes()); }

 private:
  const float* row(const AlignedBuffer<float>& table, std::int64_t position) const {
    return table.data() + (position - first_) * half_;
  }
  std::int64_t first_ = 0;
  std::int64_t half_ = 0;
  AlignedBuffer<float> cosine_;  // (count, pairs)
  AlignedBuffer<float> sine_;    // (count, pairs)
};

}  // namespace powerprefill
