// Keys and values of one layer on one rank, in the dtype of the cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/aligned_buffer.hpp"
#include "cache/format/kv_shape.hpp"

namespace powerprefill {

// Where one block's keys and values are: (B, G, D) each.
struct KvBlockView {
  const std::byte* key = nullptr;
  const std::byte* value = nullptr;
};

// Blocks laid end to end: (blocks, B, G, D), keys and values apart, so that runs of blocks are
// contiguous both for messages and in the cache file.
class KvBlocks {
 public:
  KvBlocks() = default;
  KvBlocks(const KvShape& shape, std::int64_t blocks)
      : block_bytes_(shape.block_bytes()),
        key_(blocks * block_bytes_),
        value_(blocks * block_bytes_) {}

  std::span<std::byte> keys(std::int64_t first, std::int64_t count) {
    return key_.span().subspan(static_cast<std::size_t>(first * block_bytes_),
                               static_cast<std::size_t>(count * block_bytes_));
  }
  std::span<std::byte> values(std::int64_t first, std::int64_t count) {
    return value_.span().subspan(static_cast<std::size_t>(first * block_bytes_),
                                 static_cast<std::size_t>(count * block_bytes_));
  }
  KvBlockView view(std::int64_t index) const {
    return {key_.data() + index * block_bytes_, value_.data() + index * block_bytes_};
  }
  std::int64_t bytes() const { return static_cast<std::int64_t>(key_.bytes() + value_.bytes()); }

 private:
  std::int64_t block_bytes_ = 0;
  AlignedBuffer<std::byte> key_;
  AlignedBuffer<std::byte> value_;
};

}  // namespace powerprefill
