#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "powerprefill/error.hpp"
#include "support/tokenizer_writer.hpp"
#include "text/file_checks.hpp"
#include "text/pre_tokenizer.hpp"
#include "text/regex/split.hpp"

namespace powerprefill::text {
namespace {

using Pieces = std::vector<std::string>;

Pieces split(const std::string& text, const std::string& pattern, const std::string& behavior,
             bool invert = false) {
  Pieces pieces;
  RegexScratch scratch;
  const Split rule{Regex::from_oniguruma(pattern, "test"), split_behavior(behavior, "test"),
                   invert};
  split_text(text, rule, scratch, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

// The examples of the reference's documentation of these behaviours.
TEST(Split, behaviors) {
  const std::string text = "the-final--countdown";
  EXPECT_EQ(split(text, "-", "Removed"), (Pieces{"the", "final", "countdown"}));
  EXPECT_EQ(split(text, "-", "Isolated"), (Pieces{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(split(text, "-", "MergedWithPrevious"), (Pieces{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(split(text, "-", "MergedWithNext"), (Pieces{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(split(text, "-", "Contiguous"), (Pieces{"the", "-", "final", "--", "countdown"}));
}

TEST(Split, edges) {
  EXPECT_EQ(split("-a-", "-", "MergedWithPrevious"), (Pieces{"-", "a-"}));
  EXPECT_EQ(split("-a-", "-", "MergedWithNext"), (Pieces{"-a", "-"}));
  EXPECT_EQ(split("ab12", "[a-z]", "Removed", true), (Pieces{"a", "b"}));
  EXPECT_EQ(split("aXbX", "(?=X)", "Isolated"), (Pieces{"a", "Xb", "X"}));
  EXPECT_EQ(split("", "a*", "Isolated"), Pieces{});
}

TEST(Split, qwen) {
  EXPECT_EQ(split("I'LL pay 12 €\r\n\n  now  ", test::kQwenPattern, "Isolated"),
            (Pieces{"I", "'LL", " pay", " ", "1", "2", " €\r\n\n", " ", " now", "  "}));
}

TEST(Regex, white_space_is_unicodes) {
  EXPECT_EQ(split("a\u00A0\u2003\u0085b", R"(\s+)", "Isolated").size(), 3U);
  EXPECT_EQ(split("a\u180Eb", R"(\s)", "Removed").size(), 1U);  // PCRE2's own \s has it
  EXPECT_EQ(split("a\u180E b", R"([^\S]+)", "Isolated").size(), 3U);
}

TEST(Regex, dialect) {
  EXPECT_EQ(split("a1234\\s", R"([\s\p{L}]?\p{N}{1,3}|\\s)", "Isolated"),
            (Pieces{"a123", "4", "\\s"}));
  EXPECT_EQ(split("gaFg", R"(\h+)", "Isolated"), (Pieces{"g", "aF", "g"}));
  for (const char* pattern : {R"(a\b)", R"([a&&b])", R"([a[b]])", R"(a{1,2}+)", R"(\X)", R"(a\)",
                              R"((?m:a))", R"((a)", R"(\p{Klingon})"}) {
    EXPECT_THROW(Regex::from_oniguruma(pattern, "x"), Error) << pattern;
  }
}

TEST(PreTokenizer, stages_apply_in_order) {
  const auto json = nlohmann::json::parse(R"({"type": "Sequence", "pretokenizers": [
    {"type": "Digits", "individual_digits": true},
    {"type": "ByteLevel", "add_prefix_space": true, "use_regex": true}]})");
  const PreTokenizer tokenizer(tokenizer_fields(json, "test"));
  EXPECT_TRUE(tokenizer.is_byte_level());
  Pieces pieces;
  RegexScratch scratch;
  tokenizer.run("it's 42!", true, scratch,
                [&](std::string_view word) { pieces.emplace_back(word); });
  // The reference puts a space before every piece that has none.
  EXPECT_EQ(pieces, (Pieces{" it", "'s", " ", " 4", " 2", " !"}));
}

TEST(PreTokenizer, metaspace) {
  const auto json = nlohmann::json::parse(
      R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": true})");
  const PreTokenizer tokenizer(tokenizer_fields(json, "test"));
  Pieces pieces;
  RegexScratch scratch;
  const auto emit = [&](std::string_view word) { pieces.emplace_back(word); };
  tokenizer.run("a b", true, scratch, emit);
  tokenizer.run("a b", false, scratch, emit);
  EXPECT_EQ(pieces, (Pieces{"_a", "_b", "a", "_b"}));
}

TEST(PreTokenizer, others_are_refused_by_name) {
  const auto json = nlohmann::json::parse(R"({"type": "UnicodeScripts"})");
  try {
    PreTokenizer(tokenizer_fields(json, "file"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::input);
    EXPECT_NE(std::string(error.what()).find("UnicodeScripts"), std::string::npos);
  }
}

}  // namespace
}  // namespace powerprefill::text
