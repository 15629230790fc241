// From Oniguruma's Ruby syntax (doc/RE of Oniguruma) to PCRE2's (pcre2pattern(3)).
#include <fmt/format.h>

#include <algorithm>

#include "powerprefill/error.hpp"
#include "text/regex.hpp"

namespace powerprefill::text {

namespace {

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where)
      : pattern_(pattern), where_(where) {}

  std::string run() {
    while (next_ < pattern_.size()) {
      const char c = pattern_[next_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_character(c);
      } else {
        plain_character(c);
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(ErrorCode::input,
                fmt::format("{}: {} is not supported in the regular expression `{}`", where_, what,
                            pattern_));
  }

  bool follows(std::string_view text) const { return pattern_.substr(next_).starts_with(text); }

  void take(std::size_t count) {
    out_ += pattern_.substr(next_, count);
    next_ += count;
  }

  // A set of properties, inside a class or as one.
  void put_set(std::string_view properties) {
    out_ += in_class_ ? std::string(properties) : fmt::format("[{}]", properties);
  }

  void escape() {
    if (next_ + 1 == pattern_.size()) refuse("a lone backslash");
    const char c = pattern_[next_ + 1];
    switch (c) {
      case 's':
        out_ += "\\p{WSpace}";
        break;  // PCRE2's \s has U+180E too
      case 'S':
        out_ += "\\P{WSpace}";
        break;
      case 'w':
        put_set("\\p{Alphabetic}\\p{M}\\p{N}\\p{Pc}");
        break;
      case 'h':
        put_set("0-9a-fA-F");
        break;
      case 'W':
        if (in_class_) refuse("\\W in a class");
        out_ += "[^\\p{Alphabetic}\\p{M}\\p{N}\\p{Pc}]";
        break;
      case 'p':
      case 'P':
      case 'x':
        take(2);
        if (follows("{"))
          take(std::min(pattern_.find('}', next_), pattern_.size() - 1) + 1 - next_);
        return;
      case 'b':
      case 'B':
        if (!in_class_) refuse("a word boundary");
        take(2);
        return;
      case 'H':
      case 'R':
      case 'X':
      case 'K':
      case 'G':
      case 'Z':
      case 'g':
      case 'k':
      case 'C':
      case 'M':
      case 'u':
      case 'y':
      case 'Y':
      case 'N':
      case 'O':
      case 'Q':
      case 'E':
        refuse(fmt::format("\\{}", c));
      default:
        take(2);
        return;
    }
    next_ += 2;
  }

  void plain_character(char c) {
    if (c == '[') {
      in_class_ = true;
      take(1);
      if (follows("^")) take(1);
      if (follows("]")) refuse("an empty class");
      return;
    }
    // Ruby: a repeated repetition; PCRE2: a possessive one.
    if (follows("}+")) refuse("`+` behind `}`");
    if (follows("(?m") || follows("(?x") || follows("(?a") || follows("(?y")) {
      refuse(fmt::format("`{}`", pattern_.substr(next_, 3)));
    }
    take(1);
  }

  void class_character(char c) {
    if (follows("&&")) refuse("`&&` in a class");
    if (c == '[') refuse("a class in a class");
    if (c == ']') in_class_ = false;
    take(1);
  }

  std::string_view pattern_;
  const std::string& where_;
  std::string out_;
  std::size_t next_ = 0;
  bool in_class_ = false;
};

}  // namespace

std::string to_pcre2(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

}  // namespace powerprefill::text
