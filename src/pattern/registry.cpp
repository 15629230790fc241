#include "pattern/registry.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

namespace powerprefill {

// Every pattern, here and below. They do not enter themselves: the linker leaves out a file of a
// library that nobody refers to.
extern const PatternKind kPowerPattern;
extern const PatternKind kSlidingPattern;
extern const PatternKind kStridePattern;
extern const PatternKind kDilatedPattern;
extern const PatternKind kLongNetPattern;
extern const PatternKind kFullPattern;
extern const PatternKind kMaskPattern;

namespace {

const PatternKind& require_kind(const std::string& name) {
  const PatternKind* kind = find_pattern_kind(name);
  if (kind != nullptr) return *kind;
  throw Error(ErrorCode::usage, fmt::format("unknown attention pattern '{}'; choose one of {}",
                                            name, fmt::join(pattern_names(), ", ")));
}

void require_parameter(bool fits, const char* name, std::int64_t value, const char* rule) {
  if (fits) return;
  throw Error(ErrorCode::usage, fmt::format("{} is {} blocks; it must be {}", name, value, rule));
}

}  // namespace

std::span<const PatternKind> pattern_kinds() {
  static const PatternKind kinds[] = {kPowerPattern,   kSlidingPattern, kStridePattern,
                                      kDilatedPattern, kLongNetPattern, kFullPattern,
                                      kMaskPattern};
  return kinds;
}

const PatternKind* find_pattern_kind(std::string_view name) {
  for (const PatternKind& kind : pattern_kinds()) {
    if (kind.name == name) return &kind;
  }
  return nullptr;
}

std::vector<std::string> pattern_names() {
  std::vector<std::string> names;
  for (const PatternKind& kind : pattern_kinds()) names.emplace_back(kind.name);
  return names;
}

PatternSpec default_spec(const std::string& name) {
  return require_kind(name).defaults();
}

std::string to_text(const PatternSpec& spec) {
  const PatternParameters has = require_kind(spec.name).has;
  std::vector<std::string> parts;
  if (has.window) parts.push_back(fmt::format("window {}", spec.window));
  if (has.stride) parts.push_back(fmt::format("stride {}", spec.stride));
  if (has.distances) parts.push_back(fmt::format("{} distances", spec.distances.size()));
  if (has.sink) parts.push_back(fmt::format("sink {}", spec.sink));
  if (parts.empty()) return spec.name;
  return fmt::format("{} ({})", spec.name, fmt::join(parts, ", "));
}

std::shared_ptr<const Pattern> make_pattern(const PatternSpec& spec) {
  const PatternKind& kind = require_kind(spec.name);
  if (kind.has.window) require_parameter(spec.window >= 1, "window", spec.window, "at least 1");
  if (kind.has.sink) require_parameter(spec.sink >= 0, "sink", spec.sink, "0 or more");
  if (kind.has.stride) require_parameter(spec.stride >= 1, "stride", spec.stride, "at least 1");
  if (kind.has.distances) {
    const auto& d = spec.distances;
    const bool ascending =
        std::adjacent_find(d.begin(), d.end(), std::greater_equal<>()) == d.end();
    if (d.empty() || d.front() != 0 || !ascending) {
      throw Error(ErrorCode::usage,
                  "the distances of a mask must ascend, and begin with 0 (a block sees itself)");
    }
  }
  return kind.make(spec);
}

}  // namespace powerprefill
