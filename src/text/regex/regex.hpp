// Regular expressions of tokenizer.json, with Unicode classes of our own, through PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "text/unicode/code_points.hpp"

namespace powerprefill::text {

struct LetterPattern;

// Memory for matching; any number of searches may share one, in one thread.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class RegexSearch;
  struct State;
  std::unique_ptr<State> state_;
};

class Regex {
 public:
  struct Match {
    std::size_t begin;
    std::size_t end;  // exclusive
  };

  // `pattern` in the dialect of Hugging Face tokenizers: Oniguruma's Ruby syntax. What means
  // something else to PCRE2 is rewritten, or refused: Error(input) that opens with `where`.
  static Regex from_oniguruma(std::string_view pattern, const std::string& where);
  // Matches exactly this text.
  static Regex literal(std::string_view text);
  // Matches one character of the set.
  static Regex one_of(const CodePointSet& set);

 private:
  friend class RegexSearch;
  struct Code;
  Regex() = default;
  explicit Regex(LetterPattern pattern, const std::string& where, std::string_view shown);
  std::shared_ptr<const Code> code_;  // none: a literal
  std::string text_;
};

// The matches of an expression in one text, which is well-formed UTF-8 and outlives the search.
class RegexSearch {
 public:
  RegexSearch(const Regex& regex, std::string_view text, RegexScratch& scratch);
  ~RegexSearch();
  RegexSearch(const RegexSearch&) = delete;
  RegexSearch& operator=(const RegexSearch&) = delete;

  // The next match, behind the one before; an empty one right behind another is none. Throws
  // Error(input) when matching takes more steps or memory than is allowed.
  std::optional<Regex::Match> next();

 private:
  // The first match at or behind `from`, the start of a character.
  std::optional<Regex::Match> find(std::size_t from);
  std::size_t character_at(std::size_t byte);
  std::size_t byte_at(std::size_t character);

  const Regex& regex_;
  std::string_view text_;
  RegexScratch::State& scratch_;
  std::string letters_;  // of the text's characters
  std::size_t from_ = 0;
  std::optional<std::size_t> last_end_;  // of the match before
  // A place in the text, from where the next is looked for.
  std::size_t byte_ = 0;
  std::size_t character_ = 0;
};

}  // namespace powerprefill::text
