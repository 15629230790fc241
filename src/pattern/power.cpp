// Power: sink, window, and every block at a power-of-two distance (Algorithm 1 of the paper).
#include <bit>

#include "pattern/distance_pattern.hpp"
#include "pattern/registry.hpp"

namespace powerprefill {

namespace {

class Power final : public DistancePattern {
 public:
  explicit Power(const PatternSpec& spec) : DistancePattern(spec.sink), window_(spec.window) {}

 private:
  bool has_distance(std::int64_t d) const override { return d < window_ || (d & (d - 1)) == 0; }
  std::int64_t next_distance(std::int64_t d) const override {
    if (d + 1 < window_) return d + 1;
    return static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(d)) * 2) |
           (d == 0 ? 1 : 0);
  }

  std::int64_t window_;
};

}  // namespace

extern const PatternKind kPowerPattern = {
    .name = "power",
    .summary = "sink, window, and power-of-two distances",
    .has = {.window = true, .sink = true},
    .defaults = [] { return PatternSpec{.name = "power", .window = 5, .sink = 1}; },
    .make = [](const PatternSpec& spec) -> std::shared_ptr<const Pattern> {
      return std::make_shared<Power>(spec);
    }};

}  // namespace powerprefill
