// The characters that a regular expression tells apart, each as one byte.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/unicode/code_points.hpp"

namespace powerprefill::text {

// Every character has a letter, and two have the same one when every set of the expression has both
// or neither. An expression over letters matches bytes: it needs to know nothing of Unicode.
class Alphabet {
 public:
  // '\n' has a letter of its own, which is '\n'.
  static std::optional<Alphabet> of(const std::vector<CodePointSet>& sets);

  // The letters of the characters of a set, by its number; ascending.
  const std::vector<std::uint8_t>& letters(std::size_t set) const { return letters_[set]; }

  // The letters of a well-formed UTF-8 text, one for each character.
  void spell(std::string_view text, std::string& out) const;

 private:
  using Page = std::array<std::uint8_t, 256>;
  std::uint8_t letter_of(char32_t c) const { return pages_[numbers_[c >> 8]][c & 0xFFU]; }

  std::vector<std::vector<std::uint8_t>> letters_;
  std::vector<std::uint16_t> numbers_;  // of the page of 256 characters
  std::vector<Page> pages_;             // those that differ; ASCII is in the first
};

}  // namespace powerprefill::text
