// Sliding window: the sink and the last `window` blocks (appendix D of the paper).
#include "pattern/distance_pattern.hpp"
#include "pattern/registry.hpp"

namespace powerprefill {

namespace {

class Sliding final : public DistancePattern {
 public:
  explicit Sliding(const PatternSpec& spec) : DistancePattern(spec.sink), window_(spec.window) {}

 private:
  bool has_distance(std::int64_t d) const override { return d < window_; }
  std::int64_t next_distance(std::int64_t d) const override { return d + 1 < window_ ? d + 1 : -1; }

  std::int64_t window_;
};

}  // namespace

extern const PatternKind kSlidingPattern = {
    .name = "sliding",
    .summary = "sink and window",
    .has = {.window = true, .sink = true},
    .defaults = [] { return PatternSpec{.name = "sliding", .window = 9, .sink = 1}; },
    .make = [](const PatternSpec& spec) -> std::shared_ptr<const Pattern> {
      return std::make_shared<Sliding>(spec);
    }};

}  // namespace powerprefill
