// LongNet: segments of 8, 16, ... 128 blocks, dilated by 1, 2, ... 16 (appendix D of the paper;
// LongNet is arXiv 2307.02486). Within the segment of 8 2^k blocks that both blocks share, a pair
// is attended when both numbers are multiples of 2^k.
#include "pattern/registry.hpp"

namespace powerprefill {

namespace {

constexpr std::int64_t kSmallestSegment = 8;
constexpr std::int64_t kLargestSegment = 128;

class LongNet final : public Pattern {
 public:
  bool attends(std::int64_t query, std::int64_t key) const override {
    if (key < 0 || key > query) return false;
    const std::int64_t apart = query ^ key;
    const std::int64_t either = query | key;
    for (std::int64_t ratio = 1; ratio * kSmallestSegment <= kLargestSegment; ratio *= 2) {
      if (apart < ratio * kSmallestSegment && either % ratio == 0) return true;
    }
    return false;
  }

  std::vector<std::int64_t> key_blocks(std::int64_t query) const override {
    std::vector<std::int64_t> keys;
    for (std::int64_t key = query; key >= query / kLargestSegment * kLargestSegment; --key) {
      if (attends(query, key)) keys.push_back(key);
    }
    return keys;
  }
};

}  // namespace

extern const PatternKind kLongNetPattern = {
    .name = "longnet",
    .summary = "dilated segments of 8 to 128 blocks, no parameters",
    .has = {},
    .defaults = [] { return PatternSpec{.name = "longnet"}; },
    .make = [](const PatternSpec&) -> std::shared_ptr<const Pattern> {
      return std::make_shared<LongNet>();
    }};

}  // namespace powerprefill
