// From Oniguruma's Ruby syntax to PCRE2's, over the letters of an alphabet.
#pragma once

#include <string>
#include <string_view>

#include "text/regex/alphabet.hpp"

namespace powerprefill::text {

struct LetterPattern {
  std::string pattern;  // for PCRE2, about bytes: letters
  Alphabet alphabet;
};

// Throws Error(input) that opens with `where` and names what is not supported.
LetterPattern to_letters(std::string_view pattern, const std::string& where);
// The same for one set of characters.
LetterPattern to_letters(const CodePointSet& set);

}  // namespace powerprefill::text
