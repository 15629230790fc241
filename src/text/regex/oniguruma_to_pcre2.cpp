// From Oniguruma's Ruby syntax (doc/RE of Oniguruma) to PCRE2's (pcre2pattern(3)).
#include "text/regex/oniguruma_to_pcre2.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/shortened.hpp"
#include "powerprefill/error.hpp"
#include "text/unicode/utf8.hpp"

namespace powerprefill::text {

namespace {

constexpr std::size_t kDeepestGroups = 200;  // PCRE2's parser allows 250

std::optional<unsigned> digit_of(char c, unsigned base) {
  unsigned value = base;
  if (c >= '0' && c <= '9') value = static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') value = static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') value = static_cast<unsigned>(c - 'A' + 10);
  return value < base ? std::optional(value) : std::nullopt;
}

bool is_ascii_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// What stands between sets is PCRE2's as it is.
struct Piece {
  std::string syntax;
  std::optional<std::size_t> set;
};

// One of some letters, for PCRE2.
std::string spelled(const std::vector<std::uint8_t>& letters) {
  if (letters.empty()) return "(?!)";
  if (letters.size() == 1) return fmt::format("\\x{:02x}", letters.front());
  std::string out = "[";
  for (std::size_t i = 0; i < letters.size();) {
    std::size_t last = i;
    while (last + 1 < letters.size() && letters[last + 1] == letters[last] + 1) ++last;
    out += last == i ? fmt::format("\\x{:02x}", letters[i])
                     : fmt::format("\\x{:02x}-\\x{:02x}", letters[i], letters[last]);
    i = last + 1;
  }
  return out + "]";
}

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where)
      : pattern_(pattern), where_(where) {}

  LetterPattern run() {
    while (next_ < pattern_.size()) plain();
    while (!groups_.empty() && groups_.back().isolated) leave();
    if (!groups_.empty()) refuse("a group without an end");
    auto alphabet = Alphabet::of(sets_);
    if (!alphabet) refuse("a choice of more than 255 kinds of characters");
    std::string out;
    for (const Piece& piece : pieces_) {
      out += piece.set ? spelled(alphabet->letters(*piece.set)) : piece.syntax;
    }
    return {std::move(out), std::move(*alphabet)};
  }

 private:
  struct Group {
    bool ignores_case;      // outside of it
    bool isolated = false;  // of options in the middle, which ends with the group around it
  };

  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(ErrorCode::input,
                fmt::format("{}: {} is not supported in the regular expression `{}`", where_, what,
                            shortened(pattern_, 200)));
  }

  bool follows(std::string_view text) const { return pattern_.substr(next_).starts_with(text); }
  bool take(std::string_view text) {
    if (!follows(text)) return false;
    next_ += text.size();
    return true;
  }
  char take_byte() {
    if (next_ == pattern_.size()) refuse("an end in the middle");
    return pattern_[next_++];
  }
  char32_t take_character() {
    const Scan scan = scan_at(pattern_, next_);
    next_ += scan.bytes;
    return scan.value;
  }

  void put(std::string_view syntax) {
    run_.clear();
    pieces_.push_back({std::string(syntax), std::nullopt});
  }
  void put(CodePointSet set) {
    run_.clear();
    pieces_.push_back({{}, sets_.size()});
    sets_.push_back(std::move(set));
  }

  // The length of a quantifier with numbers here, or 0: then the brace is a character.
  std::size_t braces() const {
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

  bool quantifier_follows() const {
    if (next_ == pattern_.size()) return false;
    const char c = pattern_[next_];
    return c == '*' || c == '+' || c == '?' || (c == '{' && braces() > 0);
  }

  void plain() {
    const char c = pattern_[next_];
    switch (c) {
      case '\\':
        ++next_;
        plain_escape();
        return;
      case '[':
        ++next_;
        bracket();
        return;
      case '(':
        ++next_;
        enter();
        return;
      case ')':
        ++next_;
        while (!groups_.empty() && groups_.back().isolated) leave();
        if (groups_.empty()) refuse("a group without a beginning");
        leave();
        return;
      case '.':
        ++next_;
        put(CodePointSet::of('\n').complement());
        return;
      case '{':
        if (braces() > 0) {
          quantifier();
          return;
        }
        break;
      case '*':
      case '+':
      case '?':
      case '|':
      case '^':
      case '$':
        ++next_;
        put(std::string_view(&c, 1));
        return;
      default:
        break;
    }
    literal(take_character());
  }

  void quantifier() {
    const std::string_view text = pattern_.substr(next_, braces());
    next_ += text.size();
    // Ruby: a repeated repetition; PCRE2: a possessive one.
    if (follows("+")) refuse("`+` behind `}`");
    // Ruby: none or so many; PCRE2: so many, the fewer the better.
    if (follows("?") && text.find(',') == std::string_view::npos) refuse("`?` behind `{n}`");
    put(text.starts_with("{,") ? fmt::format("{{0{}", text.substr(1)) : std::string(text));
  }

  void literal(char32_t c) {
    if (!ignores_case_) {
      put(CodePointSet::of(c));
      return;
    }
    // A quantifier is about the last character alone.
    std::u32string run = quantifier_follows() ? std::u32string() : run_;
    run.push_back(folded(c));
    for (const auto& folding : unicode_data::kFullFolding) {
      std::u32string several;
      for (const char32_t part : folding.to) {
        if (part != 0) several.push_back(part);
      }
      if (folding.from == c || run.ends_with(several)) {
        refuse(
            "what is one character in some texts and several in others, without regard to case,");
      }
    }
    put(CodePointSet::of(c).without_regard_to_case());
    run_ = quantifier_follows() ? std::u32string() : run;
  }

  // A character by its number, behind "\x", "\u" or "\0".
  char32_t number(unsigned base, std::size_t least, std::size_t most) {
    char32_t value = 0;
    std::size_t count = 0;
    while (count < most && next_ < pattern_.size()) {
      const auto digit = digit_of(pattern_[next_], base);
      if (!digit) break;
      value = value * base + *digit;
      ++next_;
      ++count;
    }
    if (count < least) refuse("a character by an incomplete number");
    return value;
  }

  // A single character that an escape stands for, or nothing: then nothing was read.
  std::optional<char32_t> escaped_character() {
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
    next_ = begin;
    if (kOthers.find(c) != std::string_view::npos && !is_brace_less_property()) return std::nullopt;
    return take_character();
  }

  // "\pL" is the letters p and L to Oniguruma.
  bool is_brace_less_property() const {
    return (pattern_[next_] == 'p' || pattern_[next_] == 'P') &&
           !pattern_.substr(next_ + 1).starts_with("{");
  }

  char32_t checked(char32_t c) const {
    if (c > kLastCodePoint || (c >= 0xD800 && c <= 0xDFFF)) refuse("a number of no character");
    return c;
  }

  // A set that an escape stands for, or nothing: then nothing was read.
  std::optional<CodePointSet> escaped_set() {
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
      case 'P': {
        if (!take("{")) break;
        const bool inverted = take("^");
        const std::size_t end = pattern_.find('}', next_);
        if (end == std::string_view::npos) refuse("a property without an end");
        const std::string_view name = pattern_.substr(next_, end - next_);
        next_ = end + 1;
        auto set = property_set(name);
        if (!set) refuse(fmt::format("the property `{}`", shortened(name)));
        return inverted != (c == 'P') ? set->complement() : *set;
      }
      default:
        break;
    }
    next_ = begin;
    return std::nullopt;
  }

  static CodePointSet hexadecimal() {
    CodePointSet out = CodePointSet::between('0', '9');
    out.add(CodePointSet::between('a', 'f'));
    out.add(CodePointSet::between('A', 'F'));
    return out;
  }

  void plain_escape() {
    if (next_ == pattern_.size()) refuse("a lone backslash");
    if (const auto c = escaped_character()) {
      literal(*c);
    } else if (auto set = escaped_set()) {
      put(std::move(*set));
    } else if (follows("A") || follows("z")) {
      put(fmt::format("\\{}", take_byte()));
    } else if (follows("b") || follows("B")) {
      refuse("a word boundary");
    } else {
      refuse(fmt::format("\\{}", take_byte()));
    }
  }

  // The end of a range, or any other single character in a class.
  std::optional<char32_t> class_character() {
    if (follows("[")) refuse("a class in a class");
    if (!take("\\")) return take_character();
    if (next_ == pattern_.size()) refuse("a lone backslash");
    if (take("b")) return '\b';
    return escaped_character();
  }

  void bracket() {
    const bool inverted = take("^");
    if (follows("]")) refuse("an empty class");
    std::vector<CodePointRange> ranges;
    while (!take("]")) {
      if (next_ == pattern_.size()) refuse("a class without an end");
      if (follows("&&")) refuse("`&&` in a class");
      const auto first = class_character();
      if (!first) {
        const auto set = escaped_set();
        if (!set) refuse(fmt::format("\\{} in a class", take_byte()));
        if (follows("-") && !follows("-]")) refuse("a range from a set");
        ranges.insert(ranges.end(), set->ranges().begin(), set->ranges().end());
        continue;
      }
      char32_t last = *first;
      if (follows("-") && !follows("-]")) {
        ++next_;
        const auto end = class_character();
        if (!end || *end < *first) refuse("a range without order");
        last = *end;
      }
      ranges.push_back({*first, last});
    }
    CodePointSet set(ranges);
    if (ignores_case_) {
      if (!inverted) check_folding(set);
      set = set.without_regard_to_case();
    }
    put(inverted ? set.complement() : std::move(set));
  }

  // A character of a class that is several without regard to case makes no difference where the
  // class is repeated and has those, too.
  void check_folding(const CodePointSet& set) const {
    const bool repeated = follows("+") || follows("*");
    const CodePointSet closed = set.without_regard_to_case();
    for (const auto& folding : unicode_data::kFullFolding) {
      if (!closed.contains(folding.from)) continue;
      const bool has_all = std::ranges::all_of(
          folding.to, [&](char32_t part) { return part == 0 || closed.contains(part); });
      if (!repeated || !has_all) {
        refuse("a class with what is several characters without regard to case");
      }
    }
  }

  void enter() {
    if (groups_.size() >= kDeepestGroups) refuse("so deep a nesting of groups");
    Group group = {ignores_case_};
    if (!take("?")) {
      put("(?:");
    } else if (follows("#")) {
      const std::size_t end = pattern_.find(')', next_);
      if (end == std::string_view::npos) refuse("a comment without an end");
      next_ = end + 1;
      return;
    } else if (take(":")) {
      put("(?:");
    } else if (follows("=") || follows("!") || follows(">")) {
      put(fmt::format("(?{}", take_byte()));
    } else if (follows("<=") || follows("<!")) {
      put(fmt::format("(?{}", pattern_.substr(next_, 2)));
      next_ += 2;
    } else if (take("<")) {
      name();
      put("(?:");
    } else {
      options(group);
      put("(?:");
    }
    groups_.push_back(group);
  }

  void name() {
    const std::size_t end = pattern_.find('>', next_);
    const std::string_view text = pattern_.substr(next_, end - next_);
    const bool usual = end != std::string_view::npos && !text.empty() && is_ascii_letter(text[0]);
    if (!usual) refuse("such a name of a group");
    next_ = end + 1;
  }

  // "i:" and "i)" and their opposites. In the middle of a group, options last to its end, over
  // every alternative that follows.
  void options(Group& group) {
    bool on = true;
    bool ignores_case = ignores_case_;
    for (char c = take_byte();; c = take_byte()) {
      if (c == 'i') {
        ignores_case = on;
      } else if (c == '-' && on) {
        on = false;
      } else if (c == 'm' && !on) {
        continue;  // off anyway
      } else if (c == 'x' && !on) {
        continue;
      } else if (c == ':' || c == ')') {
        group.isolated = c == ')';
        break;
      } else {
        refuse(fmt::format("the option `{}` of a group", c));
      }
    }
    ignores_case_ = ignores_case;
  }

  void leave() {
    put(")");
    ignores_case_ = groups_.back().ignores_case;
    groups_.pop_back();
  }

  std::string_view pattern_;
  const std::string& where_;
  std::size_t next_ = 0;
  bool ignores_case_ = false;
  std::vector<Group> groups_;
  std::vector<Piece> pieces_;
  std::vector<CodePointSet> sets_;
  std::u32string run_;  // literal characters before this place, without regard to case
};

}  // namespace

LetterPattern to_letters(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

LetterPattern to_letters(const CodePointSet& set) {
  const auto alphabet = Alphabet::of({set});
  return {spelled(alphabet->letters(0)), *alphabet};
}

}  // namespace powerprefill::text
