// Sets of characters, and those that Unicode's properties name.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "text/unicode/unicode_data.hpp"

namespace powerprefill::text {

inline constexpr char32_t kLastCodePoint = 0x10FFFF;

class CodePointSet {
 public:
  CodePointSet() = default;
  // In any order; they may overlap.
  explicit CodePointSet(std::span<const CodePointRange> ranges);
  static CodePointSet of(char32_t character) { return between(character, character); }
  static CodePointSet between(char32_t first, char32_t last);

  // Sorted, and neither overlapping nor touching.
  const std::vector<CodePointRange>& ranges() const noexcept { return ranges_; }
  bool contains(char32_t character) const;

  void add(const CodePointSet& other);
  CodePointSet complement() const;
  // With every character that differs from one of these in case alone.
  CodePointSet without_regard_to_case() const;

 private:
  void normalize();
  std::vector<CodePointRange> ranges_;
};

// The set that \p{NAME} has in regular expressions of the reference: a general category, a script
// (by its long name), or one of a few others. Upper and lower case, '_', '-' and spaces in a name
// do not matter.
std::optional<CodePointSet> property_set(std::string_view name);

// Of regular expressions: \w of Oniguruma, \w of Rust's regex, and \s of both, which is
// White_Space.
const CodePointSet& word_characters();
const CodePointSet& rust_word_characters();
const CodePointSet& white_space();

// Those of the pre-tokenizers Digits and Punctuation.
const CodePointSet& digits();
const CodePointSet& punctuation();

// Those that the normalisation forms of the reference leave as they are.
const CodePointSet& unknown_to_forms();

// The character, or another that stands for all that differ from it in case alone.
char32_t folded(char32_t character);
char32_t lower_case(char32_t character);

}  // namespace powerprefill::text
