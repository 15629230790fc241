// Mask: a list of block distances of one's own, for research; with a sink if asked for.
#include <algorithm>

#include "pattern/distance_pattern.hpp"
#include "pattern/registry.hpp"

namespace powerprefill {

namespace {

class Mask final : public DistancePattern {
 public:
  explicit Mask(const PatternSpec& spec) : DistancePattern(spec.sink), distances_(spec.distances) {}

 private:
  bool has_distance(std::int64_t d) const override {
    return std::binary_search(distances_.begin(), distances_.end(), d);
  }
  std::int64_t next_distance(std::int64_t d) const override {
    const auto next = std::upper_bound(distances_.begin(), distances_.end(), d);
    return next == distances_.end() ? -1 : *next;
  }

  std::vector<std::int64_t> distances_;
};

}  // namespace

extern const PatternKind kMaskPattern = {
    .name = "mask",
    .summary = "a list of distances of your own",
    .has = {.sink = true, .distances = true},
    .defaults = [] { return PatternSpec{.name = "mask", .sink = 0, .distances = {0}}; },
    .make = [](const PatternSpec& spec) -> std::shared_ptr<const Pattern> {
      return std::make_shared<Mask>(spec);
    }};

}  // namespace powerprefill
