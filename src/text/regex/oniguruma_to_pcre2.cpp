// From Oniguruma's Ruby syntax (doc/RE of Oniguruma) to PCRE2's (pcre2pattern(3)).
#include "text/regex/oniguruma_to_pcre2.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "text/regex/oniguruma_reader.hpp"

namespace powerprefill::text {

namespace {

constexpr std::size_t kDeepestGroups = 200;  // PCRE2's parser allows 250

// Of both, with the same meaning.
bool is_operator(char c) {
  return c == '*' || c == '+' || c == '?' || c == '|' || c == '^' || c == '$';
}

bool is_ascii_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// A set, by its number, or what stands between sets: PCRE2's syntax as it is.
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
  Translator(std::string_view pattern, const std::string& where) : in_(pattern, where) {}

  LetterPattern run() {
    while (!in_.at_end()) plain();
    while (!groups_.empty() && groups_.back().isolated) leave();
    if (!groups_.empty()) in_.refuse("a group without an end");
    auto alphabet = Alphabet::of(sets_);
    if (!alphabet) in_.refuse("a choice of more than 255 kinds of characters");
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

  void put(std::string_view syntax) {
    run_.clear();
    pieces_.push_back({std::string(syntax), std::nullopt});
  }
  void put(CodePointSet set) {
    run_.clear();
    pieces_.push_back({{}, sets_.size()});
    sets_.push_back(std::move(set));
  }

  void plain() {
    if (in_.take("\\")) {
      plain_escape();
    } else if (in_.take("[")) {
      bracket();
    } else if (in_.take("(")) {
      enter();
    } else if (in_.take(")")) {
      while (!groups_.empty() && groups_.back().isolated) leave();
      if (groups_.empty()) in_.refuse("a group without a beginning");
      leave();
    } else if (in_.take(".")) {
      put(CodePointSet::of('\n').complement());
    } else if (in_.follows("{") && in_.braces() > 0) {
      quantifier();
    } else if (is_operator(in_.next_byte())) {
      put(in_.take_bytes(1));
    } else {
      literal(in_.take_character());
    }
  }

  void quantifier() {
    const std::string_view text = in_.take_bytes(in_.braces());
    // Ruby: a repeated repetition; PCRE2: a possessive one.
    if (in_.follows("+")) in_.refuse("`+` behind `}`");
    // Ruby: none or so many; PCRE2: so many, the fewer the better.
    const bool is_exact = text.find(',') == std::string_view::npos;
    if (is_exact && in_.follows("?")) in_.refuse("`?` behind `{n}`");
    put(text.starts_with("{,") ? fmt::format("{{0{}", text.substr(1)) : std::string(text));
  }

  void literal(char32_t c) {
    if (!ignores_case_) {
      put(CodePointSet::of(c));
      return;
    }
    // A quantifier is about the last character alone.
    std::u32string run = in_.quantifier_follows() ? std::u32string() : run_;
    run.push_back(folded(c));
    for (const auto& folding : unicode_data::kFullFolding) {
      std::u32string several;
      for (const char32_t part : folding.to) {
        if (part != 0) several.push_back(part);
      }
      if (folding.from == c || run.ends_with(several)) {
        in_.refuse(
            "what is one character in some texts and several in others, without regard to case,");
      }
    }
    put(CodePointSet::of(c).without_regard_to_case());
    run_ = in_.quantifier_follows() ? std::u32string() : run;
  }

  void plain_escape() {
    if (in_.at_end()) in_.refuse("a lone backslash");
    if (const auto c = in_.escaped_character()) {
      literal(*c);
    } else if (auto set = in_.escaped_set()) {
      put(std::move(*set));
    } else if (in_.follows("A") || in_.follows("z")) {
      put(fmt::format("\\{}", in_.take_byte()));
    } else if (in_.follows("b") || in_.follows("B")) {
      in_.refuse("a word boundary");
    } else {
      in_.refuse(fmt::format("\\{}", in_.take_byte()));
    }
  }

  // The end of a range, or any other single character in a class.
  std::optional<char32_t> class_character() {
    if (in_.follows("[")) in_.refuse("a class in a class");
    if (!in_.take("\\")) return in_.take_character();
    if (in_.at_end()) in_.refuse("a lone backslash");
    if (in_.take("b")) return '\b';
    return in_.escaped_character();
  }

  void bracket() {
    const bool inverted = in_.take("^");
    if (in_.follows("]")) in_.refuse("an empty class");
    std::vector<CodePointRange> ranges;
    while (!in_.take("]")) {
      if (in_.at_end()) in_.refuse("a class without an end");
      if (in_.follows("&&")) in_.refuse("`&&` in a class");
      const auto first = class_character();
      if (!first) {
        const auto set = in_.escaped_set();
        if (!set) in_.refuse(fmt::format("\\{} in a class", in_.take_byte()));
        if (in_.follows("-") && !in_.follows("-]")) in_.refuse("a range from a set");
        ranges.insert(ranges.end(), set->ranges().begin(), set->ranges().end());
        continue;
      }
      char32_t last = *first;
      if (in_.follows("-") && !in_.follows("-]")) {
        in_.take("-");
        if (in_.at_end()) in_.refuse("a range without order");
        const auto end = class_character();
        if (!end || *end < *first) in_.refuse("a range without order");
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
    const bool repeated = in_.follows("+") || in_.follows("*");
    const CodePointSet closed = set.without_regard_to_case();
    for (const auto& folding : unicode_data::kFullFolding) {
      if (!closed.contains(folding.from)) continue;
      const bool has_all = std::ranges::all_of(
          folding.to, [&](char32_t part) { return part == 0 || closed.contains(part); });
      if (!repeated || !has_all) {
        in_.refuse("a class with what is several characters without regard to case");
      }
    }
  }

  void enter() {
    if (groups_.size() >= kDeepestGroups) in_.refuse("so deep a nesting of groups");
    Group group = {ignores_case_};
    if (!in_.take("?") || in_.take(":")) {
      put("(?:");
    } else if (in_.follows("#")) {
      if (!in_.take_to(')')) in_.refuse("a comment without an end");
      return;
    } else if (in_.follows("=") || in_.follows("!") || in_.follows(">")) {
      put(fmt::format("(?{}", in_.take_byte()));
    } else if (in_.follows("<=") || in_.follows("<!")) {
      put(fmt::format("(?{}", in_.take_bytes(2)));
    } else if (in_.take("<")) {
      name();
      put("(?:");
    } else {
      options(group);
      put("(?:");
    }
    groups_.push_back(group);
  }

  void name() {
    const auto text = in_.take_to('>');
    if (!text || text->empty() || !is_ascii_letter(text->front())) {
      in_.refuse("such a name of a group");
    }
  }

  // "i:" and "i)" and their opposites. In the middle of a group, options last to its end, over
  // every alternative that follows.
  void options(Group& group) {
    bool on = true;
    bool ignores_case = ignores_case_;
    for (char c = in_.take_byte();; c = in_.take_byte()) {
      if (c == 'i') {
        ignores_case = on;
      } else if (c == '-' && on) {
        on = false;
      } else if ((c == 'm' || c == 'x') && !on) {
        continue;  // off anyway
      } else if (c == ':' || c == ')') {
        group.isolated = c == ')';
        break;
      } else {
        in_.refuse(fmt::format("the option `{}` of a group", c));
      }
    }
    ignores_case_ = ignores_case;
  }

  void leave() {
    put(")");
    ignores_case_ = groups_.back().ignores_case;
    groups_.pop_back();
  }

  OnigurumaReader in_;
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
