#include "text/unicode/code_points.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>

#include "text/unicode/utf8.hpp"

namespace powerprefill::text {

namespace {

using unicode_data::CaseRun;

CodePointSet set_of(const std::initializer_list<CodePointRange>& ranges) {
  return CodePointSet(std::span(ranges.begin(), ranges.size()));
}

// Of the stretches, those whose value is in `values`.
CodePointSet stretches_of(const std::initializer_list<std::uint32_t>& stretches,
                          const std::vector<std::uint32_t>& values) {
  std::vector<CodePointRange> ranges;
  for (const auto* at = stretches.begin(); at != stretches.end(); ++at) {
    if (std::ranges::find(values, *at & 0xFFU) == values.end()) continue;
    const char32_t end = at + 1 == stretches.end() ? kLastCodePoint + 1 : at[1] >> 8;
    ranges.push_back({*at >> 8, end - 1});
  }
  return CodePointSet(ranges);
}

std::string loose(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c == ' ' || c == '_' || c == '-') continue;
    out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  }
  return out;
}

// Every category by its names, and groups of them.
std::optional<CodePointSet> category_set(const std::string& name) {
  struct Group {
    const char* name;
    const char* letters;  // of the short names
  };
  static constexpr Group kGroups[] = {
      {"letter", "L"}, {"mark", "M"},      {"number", "N"}, {"punctuation", "P"},
      {"symbol", "S"}, {"separator", "Z"}, {"other", "C"},
  };
  std::string short_name = name;
  for (const Group& group : kGroups) {
    if (name == group.name) short_name = loose(group.letters);
  }
  const bool cased = name == "lc" || name == "casedletter";
  std::vector<std::uint32_t> values;
  std::uint32_t value = 0;
  for (const auto* at = unicode_data::kCategoryNames.begin();
       at != unicode_data::kCategoryNames.end(); at += 2) {
    ++value;
    const std::string own = loose(at[0]);
    const bool in_group = short_name.size() == 1 && own.starts_with(short_name);
    const bool is_cased = cased && (own == "lu" || own == "ll" || own == "lt");
    if (own == name || loose(at[1]) == name || in_group || is_cased) values.push_back(value);
  }
  if (values.empty()) return std::nullopt;
  return stretches_of(unicode_data::kCategories, values);
}

std::optional<CodePointSet> script_set(const std::string& name) {
  std::uint32_t value = 0;
  for (const char* script : unicode_data::kScriptNames) {
    ++value;
    if (loose(script) == name) return stretches_of(unicode_data::kScripts, {value});
  }
  return std::nullopt;
}

CodePointSet together(std::initializer_list<const char*> names) {
  CodePointSet out;
  for (const char* name : names) out.add(*property_set(name));
  return out;
}

std::optional<CodePointSet> other_set(const std::string& name) {
  if (name == "alphabetic" || name == "alpha") return set_of(unicode_data::kAlphabetic);
  if (name == "uppercase" || name == "upper") return set_of(unicode_data::kUppercase);
  if (name == "lowercase" || name == "lower") return set_of(unicode_data::kLowercase);
  if (name == "emoji") return set_of(unicode_data::kEmoji);
  if (name == "ideographic") return set_of(unicode_data::kIdeographic);
  if (name == "whitespace" || name == "space") return white_space();
  if (name == "word") return word_characters();
  if (name == "digit") return category_set("nd");
  if (name == "alnum") return together({"Alphabetic", "Nd"});
  if (name == "any") return CodePointSet::between(0, kLastCodePoint);
  if (name == "ascii") return CodePointSet::between(0, 0x7F);
  return std::nullopt;
}

char32_t mapped(const std::initializer_list<CaseRun>& runs, char32_t character) {
  const auto* run = std::upper_bound(runs.begin(), runs.end(), character,
                                     [](char32_t c, const CaseRun& r) { return c < r.first; });
  if (run == runs.begin()) return character;
  --run;
  if (character > run->last || (character - run->first) % run->step != 0) return character;
  return static_cast<char32_t>(static_cast<std::int64_t>(character) + run->delta);
}

// Characters that fold to others, or that others fold to: every group of them.
std::map<char32_t, std::vector<char32_t>> fold_groups() {
  std::map<char32_t, std::vector<char32_t>> groups;
  for (const CaseRun& run : unicode_data::kCaseFolding) {
    for (char32_t c = run.first; c <= run.last; c += run.step) {
      auto& group = groups[mapped(unicode_data::kCaseFolding, c)];
      group.push_back(c);
    }
  }
  return groups;
}

}  // namespace

CodePointSet::CodePointSet(std::span<const CodePointRange> ranges)
    : ranges_(ranges.begin(), ranges.end()) {
  normalize();
}

CodePointSet CodePointSet::between(char32_t first, char32_t last) {
  const CodePointRange range = {first, last};
  return CodePointSet(std::span(&range, 1));
}

void CodePointSet::normalize() {
  std::ranges::sort(ranges_, {}, &CodePointRange::first);
  std::vector<CodePointRange> out;
  for (const CodePointRange& range : ranges_) {
    if (!out.empty() && range.first <= out.back().last + 1) {
      out.back().last = std::max(out.back().last, range.last);
    } else {
      out.push_back(range);
    }
  }
  ranges_ = std::move(out);
}

bool CodePointSet::contains(char32_t character) const {
  const auto behind = std::ranges::upper_bound(ranges_, character, {}, &CodePointRange::first);
  return behind != ranges_.begin() && character <= (behind - 1)->last;
}

void CodePointSet::add(const CodePointSet& other) {
  ranges_.insert(ranges_.end(), other.ranges_.begin(), other.ranges_.end());
  normalize();
}

CodePointSet CodePointSet::complement() const {
  CodePointSet out;
  char32_t next = 0;
  for (const CodePointRange& range : ranges_) {
    if (range.first > next) out.ranges_.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCodePoint) out.ranges_.push_back({next, kLastCodePoint});
  return out;
}

CodePointSet CodePointSet::without_regard_to_case() const {
  static const auto groups = fold_groups();
  std::vector<CodePointRange> more;
  for (const auto& [to, from] : groups) {
    bool any = contains(to);
    for (const char32_t c : from) any = any || contains(c);
    if (!any) continue;
    more.push_back({to, to});
    for (const char32_t c : from) more.push_back({c, c});
  }
  CodePointSet out = *this;
  out.add(CodePointSet(more));
  return out;
}

std::optional<CodePointSet> property_set(std::string_view name) {
  const std::string own = loose(name);
  if (auto set = category_set(own)) return set;
  if (auto set = script_set(own)) return set;
  return other_set(own);
}

const CodePointSet& white_space() {
  static const CodePointSet set = set_of({{0x09, 0x0D},
                                          {0x20, 0x20},
                                          {0x85, 0x85},
                                          {0xA0, 0xA0},
                                          {0x1680, 0x1680},
                                          {0x2000, 0x200A},
                                          {0x2028, 0x2029},
                                          {0x202F, 0x202F},
                                          {0x205F, 0x205F},
                                          {0x3000, 0x3000}});
  return set;
}

const CodePointSet& word_characters() {
  static const CodePointSet set = [] {
    CodePointSet out = together({"Alphabetic", "M", "Nd", "Pc"});
    // Oniguruma has a table of its own for Latin-1: superscripts and fractions too.
    for (const char32_t c : {0xB2, 0xB3, 0xB9, 0xBC, 0xBD, 0xBE}) out.add(CodePointSet::of(c));
    return out;
  }();
  return set;
}

const CodePointSet& rust_word_characters() {
  static const CodePointSet set = [] {
    CodePointSet out = together({"Alphabetic", "M", "Nd", "Pc"});
    out.add(CodePointSet::between(0x200C, 0x200D));
    return out;
  }();
  return set;
}

const CodePointSet& digits() {
  static const CodePointSet set = set_of(unicode_data::kNumeric);
  return set;
}

const CodePointSet& punctuation() {
  static const CodePointSet set = [] {
    CodePointSet out = set_of(unicode_data::kPunctuation);
    for (const char c : std::string_view("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")) {
      out.add(CodePointSet::of(static_cast<unsigned char>(c)));
    }
    return out;
  }();
  return set;
}

const CodePointSet& unknown_to_forms() {
  static const CodePointSet set = set_of(unicode_data::kUnassigned);
  return set;
}

char32_t folded(char32_t character) {
  return mapped(unicode_data::kCaseFolding, character);
}

char32_t lower_case(char32_t character) {
  return mapped(unicode_data::kLowerCase, character);
}

}  // namespace powerprefill::text
