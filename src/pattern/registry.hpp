// How a pattern makes itself known: one file per pattern defines its kind, and registry.cpp names
// it.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>

#include "powerprefill/pattern.hpp"

namespace powerprefill {

// Which members of PatternSpec a pattern uses.
struct PatternParameters {
  bool window = false;
  bool sink = false;
  bool stride = false;
  bool distances = false;
};

struct PatternKind {
  std::string_view name;
  std::string_view summary;  // one line for users
  PatternParameters has;
  PatternSpec (*defaults)();  // the paper's setting
  std::shared_ptr<const Pattern> (*make)(const PatternSpec& spec);
};

// All kinds, in the order in which they are listed to users.
std::span<const PatternKind> pattern_kinds();

// The kind of that name, or nullptr.
const PatternKind* find_pattern_kind(std::string_view name);

// The pattern that JSON spells, see spec_from_json(). Throws what is derived from std::exception.
PatternSpec spec_of(const nlohmann::json& value);

}  // namespace powerprefill
