// Dilated window: every second block of the last `window` (appendix D of the paper; dilation 1).
#include "pattern/distance_pattern.hpp"
#include "pattern/registry.hpp"

namespace powerprefill {

namespace {

class Dilated final : public DistancePattern {
 public:
  explicit Dilated(const PatternSpec& spec) : DistancePattern(0), window_(spec.window) {}

 private:
  bool has_distance(std::int64_t d) const override { return d % 2 == 0 && d < window_; }
  std::int64_t next_distance(std::int64_t d) const override { return d + 2 < window_ ? d + 2 : -1; }

  std::int64_t window_;
};

}  // namespace

extern const PatternKind kDilatedPattern = {
    .name = "dilated",
    .summary = "even distances within the window; no sink",
    .has = {.window = true},
    .defaults = [] { return PatternSpec{.name = "dilated", .window = 20, .sink = 0}; },
    .make = [](const PatternSpec& spec) -> std::shared_ptr<const Pattern> {
      return std::make_shared<Dilated>(spec);
    }};

}  // namespace powerprefill
