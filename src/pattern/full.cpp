// Full causal attention.
#include "pattern/distance_pattern.hpp"
#include "pattern/registry.hpp"

namespace powerprefill {

namespace {

class Full final : public DistancePattern {
 public:
  Full() : DistancePattern(0) {}

 private:
  bool has_distance(std::int64_t) const override { return true; }
  std::int64_t next_distance(std::int64_t d) const override { return d + 1; }
};

}  // namespace

extern const PatternKind kFullPattern = {
    .name = "full",
    .summary = "every block",
    .has = {},
    .defaults = [] { return PatternSpec{.name = "full"}; },
    .make = [](const PatternSpec&) -> std::shared_ptr<const Pattern> {
      return std::make_shared<Full>();
    }};

}  // namespace powerprefill
