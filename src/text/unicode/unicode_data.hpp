// Properties of characters, as the reference implementation knows them: its regular expressions
// have Unicode 16.0, its digits and lower case 17.0, its punctuation 8.0 and its normalisation
// forms 9.0. No other library's tables decide about ids.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

namespace powerprefill::text {

struct CodePointRange {
  char32_t first;
  char32_t last;  // inclusive
};

namespace unicode_data {

// Every `step` of the characters from `first` to `last` becomes the one `delta` behind it.
struct CaseRun {
  char32_t first;
  char32_t last;
  std::uint32_t step;
  std::int32_t delta;
};

// A character that becomes several without regard to case; 0 ends them.
struct FullFolding {
  char32_t from;
  std::array<char32_t, 3> to;
};

// Stretches of one value: 256 times the first character, plus the value's number in the names, from
// 1, or 0. Each lasts to the next one. Categories have two names each, a short one and a long one.
extern const std::initializer_list<const char*> kCategoryNames;
extern const std::initializer_list<std::uint32_t> kCategories;
extern const std::initializer_list<const char*> kScriptNames;
extern const std::initializer_list<std::uint32_t> kScripts;

extern const std::initializer_list<CodePointRange> kAlphabetic;
extern const std::initializer_list<CodePointRange> kUppercase;
extern const std::initializer_list<CodePointRange> kLowercase;
extern const std::initializer_list<CodePointRange> kEmoji;
extern const std::initializer_list<CodePointRange> kIdeographic;
extern const std::initializer_list<CaseRun> kCaseFolding;  // to one character (C and S)
extern const std::initializer_list<FullFolding> kFullFolding;

extern const std::initializer_list<CodePointRange> kNumeric;      // 17.0
extern const std::initializer_list<CaseRun> kLowerCase;           // 17.0
extern const std::initializer_list<CodePointRange> kPunctuation;  // 8.0
extern const std::initializer_list<CodePointRange> kUnassigned;   // 9.0

}  // namespace unicode_data

}  // namespace powerprefill::text
