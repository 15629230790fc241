// UTF-8 as the tokenizers need it: scanning, checking, and repairing a stream of bytes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace powerprefill::text {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Scan {
  enum class Kind {
    character,   // a whole character
    incomplete,  // the text ends inside a character that is well-formed so far
    broken,      // no character starts like this
  };
  Kind kind;
  std::size_t bytes;  // of the character, or of the longest piece of one
  char32_t value;     // of a character
};

// What is at `position`, which must be below text.size(). Source: The Unicode Standard, table 3-7.
Scan scan_at(std::string_view text, std::size_t position);

// The offset of the first byte that is not part of a character, or npos.
std::size_t find_broken(std::string_view text);

// The start of the character that ends at `end`, which is not 0; `text` is well-formed.
std::size_t start_of_last(std::string_view text, std::size_t end);

void append_utf8(std::string& text, char32_t character);

// Turns a stream of bytes into well-formed UTF-8: bytes of an unfinished character wait for the
// next ones; broken ones become U+FFFD, one for each longest piece of a character.
class Utf8Stream {
 public:
  // The text that `bytes` complete.
  std::string feed(std::string_view bytes);
  // U+FFFD for what is still waiting, if anything is.
  std::string finish();

 private:
  std::string waiting_;
};

}  // namespace powerprefill::text
