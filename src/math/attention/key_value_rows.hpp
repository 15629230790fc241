// Keys and values of one head in memory, as the attention kernels take them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.hpp"

namespace powerprefill {

// `rows` rows of D elements, `stride` bytes apart, any alignment.
struct HeadRows {
  DType dtype;
  const std::byte* data;
  std::int64_t stride;
  std::int64_t rows;
};

struct KeyValueRows {
  HeadRows key;
  HeadRows value;
};

}  // namespace powerprefill
