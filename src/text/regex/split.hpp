// Cutting a text at the matches of a regular expression.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "text/regex/regex.hpp"

namespace powerprefill::text {

// What becomes of the matches, which cut the text: they go, stay as pieces of their own, become
// part of the piece before or behind, or of one piece when they touch.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

// From its name in tokenizer.json, e.g. "MergedWithNext"; Error(input) that opens with `where`.
SplitBehavior split_behavior(const std::string& name, const std::string& where);

struct Split {
  Regex pattern;
  SplitBehavior behavior;
  bool invert = false;  // what lies between the matches cuts the text
};

// Calls `emit` for every piece, in order; pieces are views into `text`, and not empty.
void split_text(std::string_view text, const Split& split, RegexScratch& scratch,
                const std::function<void(std::string_view)>& emit);

}  // namespace powerprefill::text
