// An even, contiguous split of items.
#pragma once

#include <cstdint>

namespace powerprefill {

// Items [begin, end).
struct Part {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t count() const { return end - begin; }
  bool operator==(const Part&) const = default;
};

// Part `part` of `count` items cut into `parts`; parts differ by one item at most.
inline Part part_of(std::int64_t count, int part, int parts) {
  return {count * part / parts, count * (part + 1) / parts};
}

}  // namespace powerprefill
