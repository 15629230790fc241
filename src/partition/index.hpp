// Which rank owns which blocks.
#pragma once

#include <compare>
#include <cstdint>

namespace powerprefill {

// A block of the whole prompt. Distinct from LocalBlock so that the two cannot be mixed up.
struct GlobalBlock {
  std::int64_t value = 0;
  auto operator<=>(const GlobalBlock&) const = default;
};

// A block among those of one rank, counted in ascending global order from 0.
struct LocalBlock {
  std::int64_t value = 0;
  auto operator<=>(const LocalBlock&) const = default;
};

// Blocks [first, first + count).
struct BlockRange {
  GlobalBlock first;
  std::int64_t count = 0;
  std::int64_t end() const { return first.value + count; }
  bool contains(GlobalBlock b) const { return b.value >= first.value && b.value < end(); }
  bool operator==(const BlockRange&) const = default;
};

}  // namespace powerprefill
