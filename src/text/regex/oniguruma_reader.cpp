#include "text/regex/oniguruma_reader.hpp"

#include <fmt/format.h>

#include "base/shortened.hpp"
#include "powerprefill/error.hpp"
#include "text/unicode/utf8.hpp"

namespace powerprefill::text {

namespace {

std::optional<unsigned> digit_of(char c, unsigned base) {
  unsigned value = base;
  if (c >= '0' && c <= '9') value = static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') value = static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') value = static_cast<unsigned>(c - 'A' + 10);
  return value < base ? std::optional(value) : std::nullopt;
}

CodePointSet hexadecimal() {
  CodePointSet out = CodePointSet::between('0', '9');
  out.add(CodePointSet::between('a', 'f'));
  out.add(CodePointSet::between('A', 'F'));
  return out;
}

}  // namespace

void OnigurumaReader::refuse(std::string_view what) const {
  throw Error(ErrorCode::input,
              fmt::format("{}: {} is not supported in the regular expression `{}`", where_, what,
                          shortened(pattern_, 200)));
}

std::size_t OnigurumaReader::braces() const {
  std::size_t at = next_ + 1;
  bool any = false;
  for (bool comma = false; at < pattern_.size(); ++at) {
    if (pattern_[at] == ',' && !comma) {
      comma = true;
    } else if (digit_of(pattern_[at], 10)) {
      any = true;
    } else {
      break;
    }
  }
  return any && at < pattern_.size() && pattern_[at] == '}' ? at + 1 - next_ : 0;
}

bool OnigurumaReader::quantifier_follows() const {
  if (at_end()) return false;
  const char c = pattern_[next_];
  return c == '*' || c == '+' || c == '?' || (c == '{' && braces() > 0);
}

bool OnigurumaReader::take(std::string_view text) {
  if (!follows(text)) return false;
  next_ += text.size();
  return true;
}

char OnigurumaReader::take_byte() {
  if (at_end()) refuse("an end in the middle");
  return pattern_[next_++];
}

char32_t OnigurumaReader::take_character() {
  const Scan scan = scan_at(pattern_, next_);
  next_ += scan.bytes;
  return scan.value;
}

std::string_view OnigurumaReader::take_bytes(std::size_t count) {
  const std::string_view text = pattern_.substr(next_, count);
  next_ += text.size();
  return text;
}

std::optional<std::string_view> OnigurumaReader::take_to(char end) {
  const std::size_t found = pattern_.find(end, next_);
  if (found == std::string_view::npos) return std::nullopt;
  const std::string_view text = pattern_.substr(next_, found - next_);
  next_ = found + 1;
  return text;
}

// A character by its number, behind "\x", "\u" or "\0".
char32_t OnigurumaReader::number(unsigned base, std::size_t least, std::size_t most) {
  char32_t value = 0;
  std::size_t count = 0;
  while (count < most && !at_end()) {
    const auto digit = digit_of(pattern_[next_], base);
    if (!digit) break;
    value = value * base + *digit;
    ++next_;
    ++count;
  }
  if (count < least) refuse("a character by an incomplete number");
  return value;
}

char32_t OnigurumaReader::checked(char32_t c) const {
  if (c > kLastCodePoint || (c >= 0xD800 && c <= 0xDFFF)) refuse("a number of no character");
  return c;
}

std::optional<char32_t> OnigurumaReader::escaped_character() {
  const std::size_t begin = next_;
  const char c = take_byte();
  switch (c) {
    case 't':
      return '\t';
    case 'n':
      return '\n';
    case 'v':
      return '\v';
    case 'f':
      return '\f';
    case 'r':
      return '\r';
    case 'a':
      return '\a';
    case 'e':
      return 0x1B;
    case '0':
      return number(8, 0, 2);
    case 'u':
      return checked(number(16, 4, 4));
    case 'x': {
      if (take("{")) {
        const char32_t value = number(16, 1, 8);
        if (!take("}")) refuse("more than one character in \\x{}");
        return checked(value);
      }
      const char32_t value = number(16, 1, 2);
      if (value > 0x7F) refuse("a byte of a character");
      return value;
    }
    default:
      break;
  }
  constexpr std::string_view kOthers = "123456789wWsSdDhHpPbBAzZGKRXkgcCMNOoQEyY";
  // "\pL" is the letters p and L to Oniguruma.
  const bool is_letter = (c == 'p' || c == 'P') && !follows("{");
  next_ = begin;
  if (kOthers.find(c) != std::string_view::npos && !is_letter) return std::nullopt;
  return take_character();
}

std::optional<CodePointSet> OnigurumaReader::escaped_set() {
  const std::size_t begin = next_;
  const char c = take_byte();
  switch (c) {
    case 's':
      return white_space();
    case 'S':
      return white_space().complement();
    case 'w':
      return word_characters();
    case 'W':
      return word_characters().complement();
    case 'd':
      return property_set("Nd");
    case 'D':
      return property_set("Nd")->complement();
    case 'h':
      return hexadecimal();
    case 'H':
      return hexadecimal().complement();
    case 'p':
    case 'P':
      if (take("{")) return property(c == 'P');
      break;
    default:
      break;
  }
  next_ = begin;
  return std::nullopt;
}

// Behind "\p{" or, inverted, "\P{".
CodePointSet OnigurumaReader::property(bool inverted) {
  if (take("^")) inverted = !inverted;
  const auto name = take_to('}');
  if (!name) refuse("a property without an end");
  const auto set = property_set(*name);
  if (!set) refuse(fmt::format("the property `{}`", shortened(*name)));
  return inverted ? set->complement() : *set;
}

}  // namespace powerprefill::text
