// How a pattern makes itself known: one file per pattern defines it and registers it here.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "powerprefill/pattern.hpp"

namespace powerprefill {

struct PatternKind {
  std::string_view name;
  bool has_window;  // whether the pattern uses PatternSpec::window
  bool has_sink;    // whether the pattern uses PatternSpec::sink
  std::shared_ptr<const Pattern> (*make)(const PatternSpec& spec);
};

// All kinds, in the order in which they are listed to users.
std::span<const PatternKind> pattern_kinds();

// The kind of that name, or nullptr.
const PatternKind* find_pattern_kind(std::string_view name);

// Defined in the file of each pattern.
extern const PatternKind kPowerPattern;
extern const PatternKind kSlidingPattern;
extern const PatternKind kFullPattern;

}  // namespace powerprefill
