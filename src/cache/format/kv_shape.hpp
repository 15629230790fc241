// The shape of a layer's keys and values, in memory and in a cache file.
#pragma once

#include <cstdint>

#include "base/dtype.hpp"

namespace powerprefill {

// A row is a token's keys, or its values, (G, D); a block is B rows.
struct KvShape {
  std::int64_t block;     // B
  std::int64_t kv_heads;  // G
  std::int64_t head_dim;  // D
  DType dtype;
  std::int64_t row_elements() const { return kv_heads * head_dim; }
  std::int64_t row_bytes() const {
    return row_elements() * static_cast<std::int64_t>(bytes_of(dtype));
  }
  std::int64_t block_bytes() const { return block * row_bytes(); }
};

}  // namespace powerprefill
