// Reads a regular expression in Oniguruma's Ruby syntax (its doc/RE) piece by piece.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "text/unicode/code_points.hpp"

namespace powerprefill::text {

class OnigurumaReader {
 public:
  // `pattern` and `where` outlive the reader; `where` opens every message.
  OnigurumaReader(std::string_view pattern, const std::string& where)
      : pattern_(pattern), where_(where) {}

  // Throws Error(input): WHAT is not supported.
  [[noreturn]] void refuse(std::string_view what) const;

  bool at_end() const { return next_ == pattern_.size(); }
  char next_byte() const { return pattern_[next_]; }  // not at the end
  bool follows(std::string_view text) const { return pattern_.substr(next_).starts_with(text); }
  // Whether a quantifier follows, and the length of one with numbers, "{2,3}"; 0: a brace that
  // follows is a character.
  bool quantifier_follows() const;
  std::size_t braces() const;

  // Each reads what it gives.
  bool take(std::string_view text);
  char take_byte();
  char32_t take_character();
  std::string_view take_bytes(std::size_t count);
  // What is before the next `end`, which is read too; nullopt when there is none.
  std::optional<std::string_view> take_to(char end);

  // Behind a backslash: the character, or the set of them, that the escape stands for. nullopt when
  // it stands for something else; then nothing was read.
  std::optional<char32_t> escaped_character();
  std::optional<CodePointSet> escaped_set();

 private:
  char32_t number(unsigned base, std::size_t least, std::size_t most);
  char32_t checked(char32_t c) const;
  CodePointSet property(bool inverted);

  std::string_view pattern_;
  const std::string& where_;
  std::size_t next_ = 0;
};

}  // namespace powerprefill::text
