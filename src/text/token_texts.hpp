// What tokens read as: the bytes of every id, and how their row becomes a text.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/unicode/utf8.hpp"

namespace powerprefill::text {

struct TokenTexts {
  struct Token {
    std::string bytes;
    bool exists = false;
    bool special = false;
  };
  std::vector<Token> tokens;      // by id
  bool joined_by_spaces = false;  // a space between tokens
  // What a text loses at its start: so many spaces, or those of its first token.
  std::int32_t spaces_off_start = 0;
  bool first_token_without_spaces = false;
};

// Reads ids one by one. Ids that have no token read as nothing, as in the reference.
class TokenReader {
 public:
  TokenReader(std::shared_ptr<const TokenTexts> texts, bool skip_special)
      : texts_(std::move(texts)),
        skip_special_(skip_special),
        spaces_off_(texts_->spaces_off_start) {}

  // The text that `id` completes; well-formed UTF-8.
  std::string next(std::int32_t id);
  // What is left of an unfinished character.
  std::string finish() { return stream_.finish(); }

 private:
  std::shared_ptr<const TokenTexts> texts_;
  bool skip_special_;
  std::int32_t spaces_off_;
  bool is_first_ = true;
  Utf8Stream stream_;
};

}  // namespace powerprefill::text
