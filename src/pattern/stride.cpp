// Stride slash: sink, window, and every block at a distance that is a multiple of `stride`
// (appendix D of the paper).
#include "pattern/distance_pattern.hpp"
#include "pattern/registry.hpp"

namespace powerprefill {

namespace {

class Stride final : public DistancePattern {
 public:
  explicit Stride(const PatternSpec& spec)
      : DistancePattern(spec.sink), window_(spec.window), stride_(spec.stride) {}

 private:
  bool has_distance(std::int64_t d) const override { return d < window_ || d % stride_ == 0; }
  std::int64_t next_distance(std::int64_t d) const override {
    return d + 1 < window_ ? d + 1 : (d / stride_ + 1) * stride_;
  }

  std::int64_t window_;
  std::int64_t stride_;
};

}  // namespace

extern const PatternKind kStridePattern = {
    .name = "stride",
    .summary = "sink, window, and distances that are a multiple of the stride",
    .has = {.window = true, .sink = true, .stride = true},
    .defaults = [] { return PatternSpec{.name = "stride", .window = 6, .sink = 1, .stride = 32}; },
    .make = [](const PatternSpec& spec) -> std::shared_ptr<const Pattern> {
      return std::make_shared<Stride>(spec);
    }};

}  // namespace powerprefill
