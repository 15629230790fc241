// The `decoder` of tokenizer.json: what its tokens read as.
#pragma once

#include <string>
#include <vector>

#include "json/json_fields.hpp"
#include "text/token_texts.hpp"

namespace powerprefill::text {

// ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip at the start, and sequences of them.
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
