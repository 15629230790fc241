// Regular expressions of tokenizer.json, with Unicode classes, through PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace powerprefill::text {

// Memory for matching; any number of expressions may share one, one after the other.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
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

  // The first match at or behind `from`. `subject` has to be well-formed UTF-8 and `from` the start
  // of a character. Throws Error(input) when matching takes more memory than is allowed.
  std::optional<Match> find(std::string_view subject, std::size_t from,
                            RegexScratch& scratch) const;

 private:
  struct Code;
  Regex(std::string_view pattern, unsigned options, const std::string& where);
  std::shared_ptr<const Code> code_;
};

// `pattern` rewritten for PCRE2.
std::string to_pcre2(std::string_view pattern, const std::string& where);

}  // namespace powerprefill::text
