// Every character there is, against what the reference makes of it.
#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/file_checks.hpp"
#include "text/normalizer.hpp"
#include "text/pre_tokenizer.hpp"
#include "text/regex/regex.hpp"
#include "text/unicode/code_points.hpp"
#include "text/unicode/utf8.hpp"
#include "unit/text_unicode_recorded.hpp"

namespace powerprefill::text {
namespace {

class Digest {
 public:
  void add(std::uint8_t byte) { value_ = (value_ ^ byte) * 0x100000001B3U; }
  void add(char32_t c) {
    for (int shift = 0; shift < 32; shift += 8) add(static_cast<std::uint8_t>(c >> shift));
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xCBF29CE484222325U;
};

template <typename Visit>
void for_each_character(const Visit& visit) {
  for (char32_t c = 0; c <= kLastCodePoint; ++c) {
    if (c < 0xD800 || c > 0xDFFF) visit(c);
  }
}

TEST(Unicode, classes_of_regular_expressions) {
  std::string all;
  for_each_character([&](char32_t c) { append_utf8(all, c); });
  RegexScratch scratch;
  for (const recorded::Set& set : recorded::kMatched) {
    const Regex regex = Regex::from_oniguruma(std::string("(?:") + set.pattern + ")+", "test");
    RegexSearch search(regex, all, scratch);
    std::size_t count = 0;
    Digest digest;
    while (const auto match = search.next()) {
      for (std::size_t at = match->begin; at < match->end;) {
        const Scan scan = scan_at(all, at);
        digest.add(scan.value);
        ++count;
        at += scan.bytes;
      }
    }
    EXPECT_EQ(count, set.count) << set.pattern;
    EXPECT_EQ(digest.value(), set.hash) << set.pattern;
  }
}

TEST(Unicode, pre_tokenizers) {
  for (const recorded::Set& set : recorded::kCut) {
    const auto description = nlohmann::json::parse(set.pattern);
    const PreTokenizer tokenizer(tokenizer_fields(description, "test"));
    RegexScratch scratch;
    std::size_t count = 0;
    Digest digest;
    for_each_character([&](char32_t c) {
      std::string text = "a";
      append_utf8(text, c);
      bool whole = false;
      tokenizer.run(text, true, scratch, [&](std::string_view word) { whole = word == text; });
      if (whole) return;
      digest.add(c);
      ++count;
    });
    EXPECT_EQ(count, set.count) << set.pattern;
    EXPECT_EQ(digest.value(), set.hash) << set.pattern;
  }
}

TEST(Unicode, forms_and_lower_case) {
  for (const recorded::Form& form : recorded::kForms) {
    const nlohmann::json description = {{"type", form.type}};
    const Normalizer normalizer(tokenizer_fields(description, "test"));
    RegexScratch scratch;
    Digest digest;
    std::string text;
    for_each_character([&](char32_t c) {
      append_utf8(text, c);
      text += " a\u0301";
      append_utf8(text, c);
      text += "\u0323 \u1100";
      append_utf8(text, c);
      text += "\u0308\u0345";
    });
    for (const char c : normalizer(text, scratch)) digest.add(static_cast<std::uint8_t>(c));
    EXPECT_EQ(digest.value(), form.hash) << form.type;
  }
}

TEST(Unicode, late_compositions) {
  const nlohmann::json description = {{"type", "NFC"}};
  const Normalizer normalizer(tokenizer_fields(description, "test"));
  RegexScratch scratch;
  for (const char* pair : recorded::kUncomposed) EXPECT_EQ(normalizer(pair, scratch), pair);
}

}  // namespace
}  // namespace powerprefill::text
