#include "pattern/registry.hpp"

#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace powerprefill {

std::span<const PatternKind> pattern_kinds() {
  static const std::array kinds = {kPowerPattern, kSlidingPattern, kFullPattern};
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

std::shared_ptr<const Pattern> make_pattern(const PatternSpec& spec) {
  const PatternKind* kind = find_pattern_kind(spec.name);
  if (kind == nullptr) {
    throw Error(ErrorCode::usage, fmt::format("unknown attention pattern '{}'; choose one of {}",
                                              spec.name, fmt::join(pattern_names(), ", ")));
  }
  if (kind->has_window && spec.window < 1) {
    throw Error(ErrorCode::usage,
                fmt::format("window is {} blocks; it must be at least 1", spec.window));
  }
  if (kind->has_sink && spec.sink < 0) {
    throw Error(ErrorCode::usage,
                fmt::format("sink is {} blocks; it must not be negative", spec.sink));
  }
  return kind->make(spec);
}

std::vector<std::int64_t> Pattern::key_blocks(std::int64_t query) const {
  std::vector<std::int64_t> keys;
  for (std::int64_t key = query; key >= 0; --key) {
    if (attends(query, key)) keys.push_back(key);
  }
  return keys;
}

}  // namespace powerprefill
