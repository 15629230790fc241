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

// Tokens [begin, end) of the prompt. A plain number of tokens n means [0, n).
struct TokenRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  TokenRange() = default;
  TokenRange(std::int64_t tokens) : end(tokens) {}  // NOLINT: implicit on purpose
  TokenRange(std::int64_t first, std::int64_t past_last) : begin(first), end(past_last) {}
  std::int64_t count() const { return end - begin; }
  bool operator==(const TokenRange&) const = default;
};

}  // namespace powerprefill
