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

// Keys and values that lie apart, as many bytes of each, to be read or written.
struct KvSpan {
  std::span<std::byte> key;
  std::span<std::byte> value;
  KvSpan first(std::size_t bytes) const { return {key.first(bytes), value.first(bytes)}; }
  KvSpan subspan(std::size_t offset, std::size_t bytes) const {
    return {key.subspan(offset, bytes), value.subspan(offset, bytes)};
  }
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

  // Blocks [first, first + count).
  KvSpan span(std::int64_t first, std::int64_t count) {
    return KvSpan{key_.span(), value_.span()}.subspan(
        static_cast<std::size_t>(first * block_bytes_),
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
