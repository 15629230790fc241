// From ids back to text: what every token reads as, and how a row of them becomes a text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "json/json_fields.hpp"
#include "text/unicode/utf8.hpp"

namespace powerprefill::text {

// The bytes of every id, and what happens at a text's start.
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

// The `decoder` of tokenizer.json, which makes texts of its tokens: ByteLevel, Metaspace, Replace,
// ByteFallback, Fuse, Strip at the start, and sequences of them.
class JsonDecoder {
 public:
  // Without a decoder: tokens as the file spells them, with a space between them.
  JsonDecoder() = default;
  // Throws Error(input) that names what is not supported.
  explicit JsonDecoder(const JsonFields& description);

  // The bytes that one token stands for.
  std::string bytes_of(std::string token) const;
  // What happens to the start of a text, and between tokens.
  void set_start(TokenTexts& texts) const;

 private:
  struct Step {
    enum class Kind { byte_level, byte_fallback, replace };
    Kind kind;
    std::string from;  // replace
    std::string to;
  };
  void add(const JsonFields& description);

  std::vector<Step> steps_;
  bool joined_by_spaces_ = true;
  bool fused_ = false;
  std::int32_t spaces_off_start_ = 0;
  bool first_token_without_spaces_ = false;
};

}  // namespace powerprefill::text
