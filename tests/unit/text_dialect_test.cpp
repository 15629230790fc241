// Regular expressions in Oniguruma's syntax: what tokenizers 0.23.3 replaces by "_".
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "powerprefill/error.hpp"
#include "text/file_checks.hpp"
#include "text/normalizer.hpp"
#include "text/regex/regex.hpp"

namespace powerprefill::text {
namespace {

struct Replaced {
  const char* pattern;
  const char* text;
  const char* result;
};

constexpr Replaced kReplaced[] = {
    {"(?i:\\p{Lu})", "aA1", "a_1"},
    {"(?i:[^\\p{Lu}])", "aA1\U000001C5", "aA_\U000001C5"},
    {"(?i:[\U000000E0-\U000000E3])", "\U000000C0\U000000E0\U000000C1", "___"},
    {"(?i:[^\U000000E0-\U000000E3])", "\U000000C0\U000000E0\U000000C11",
     "\U000000C0\U000000E0\U000000C1_"},
    {"(?i:s)", "sS\U0000017F", "___"},
    {"(?i:k)", "kKK", "___"},
    {"(?i:[s-t]+)", "sS\U0000017FtT", "_"},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'\U0000017F'S'RE'Ll'x", "____'x"},
    {"\\pL", "pLx", "_x"},
    {"a{,2}", "aaab", "__b_"},
    {"a{2,}?", "aaab", "_ab"},
    {"b(?i)c|d", "bC D bd c", "_ D _ c"},
    {"[\\pL]", "pLx", "__x"},
    {"\\p{^L}", "a1", "a_"},
    {"\\p{ lower_case-letter}", "a1", "_1"},
    {"\\p{han}", "\U00006F22a", "_a"},
    {"[a\\]b]", "]", "_"},
    {"a{", "a{", "_"},
    {"a{x}", "a{x}", "_"},
    {"a{1,", "a{1,", "_"},
    {"{", "{", "_"},
    {"\\_\\-\\/\\ ", "_-/ ", "_"},
    {"\\i", "i", "_"},
    {"[\\i]", "i", "_"},
    {"\\u0041", "A", "_"},
    {"\\x41\\x{41}", "AA", "_"},
    {"\\012", "\n", "_"},
    {"^a", "a\na\n", "_\n_\n"},
    {"a$", "a\na", "_\n_"},
    {"a\\z", "a\n", "a\n"},
    {".", "\na\r\U00002028", "\n___"},
    {"[\\s\\S]", "a\n", "__"},
    {"(?<!a)b", "abb", "ab_"},
    {"\\h\\H", "a!", "_"},
    {"a++a", "aaa", "aaa"},
    {"(?-i:a)", "aA", "_A"},
    {"(?i-m:a)", "aA", "__"},
    {"(?i)a", "aA", "__"},
    {"[^\\W]", "a ", "_ "},
    {"[\\W]", "a ", "a_"},
    {"(?i:\U0000017F)", "sS", "__"},
    {"(?i:f)i", "\U0000FB01f", "\U0000FB01f"},
    {"(?i:i)", "\U00000130\U00000131I", "\U00000130\U00000131_"},
    {"(?i:\\u00b5)", "\U000003BC\U0000039C", "__"},
    {"(?<word>a)b", "ab", "_"},
    {"(?#x)a", "a", "_"},
    {"[a-]", "a-", "__"},
    {"a(?i)b(?-i)c", "aBc aBC", "_ aBC"},
    {"(a(?i)b|c)D", "aBD cD CD aBd", "_ cD CD aBd"},
    {"x*", "axb", "_a_b_"},
    {"(?:a|b)*?b", "aab", "_"},
    {"(?>a+)b", "aab", "_"},
    {"\\p{S}+", " \U0001FA77\U0001FAE9", " _"},
    {" ?[^\\s\\p{L}\\p{N}]+", " \U0001FA77", "_"},
};

std::string replace(const char* pattern, const char* text) {
  const nlohmann::json description = {
      {"type", "Replace"}, {"pattern", {{"Regex", pattern}}}, {"content", "_"}};
  RegexScratch scratch;
  return Normalizer(tokenizer_fields(description, "test"))(text, scratch);
}

TEST(RegexDialect, matches_what_the_reference_does) {
  for (const Replaced& one : kReplaced) {
    EXPECT_EQ(replace(one.pattern, one.text), one.result) << one.pattern;
  }
}

TEST(RegexDialect, the_rest_is_refused) {
  for (const char* pattern : {"(?im:a)",     "(?m)a",
                              "(?x: a)",     "(?ix)a",
                              "(?a)b",       "(a)\\1",
                              "\\k<a>",      "\\o{101}",
                              "a{2}?",       "a{1,2}+",
                              "\\xC3\\xA9",  "[\\w-x]",
                              "[z-a]",       "[a",
                              "(a",          "a)",
                              "[]a]",        "[[:alpha:]]",
                              "\\bword",     "(?i:ss)",
                              "(?i:\u00DF)", "(?i:[\u00DF])",
                              "(?i:off)",    "(?i:[\\p{Lu}])",
                              "\\p{L",       "\\p{Script=Han}",
                              "\\x{110000}", "\\u12",
                              "\\",          "(?",
                              "(?i",         "(?<",
                              "(?(1)a)",     "(?~a)",
                              "\\X",         "a**"}) {
    EXPECT_THROW(replace(pattern, "a"), Error) << pattern;
  }
  const std::string nul_to_nothing("[\0-", 3);
  EXPECT_THROW(Regex::from_oniguruma(nul_to_nothing, "test"), Error);
  // As deep as an expression may be, and deeper.
  const auto nested = [](int depth) {
    return std::string(static_cast<std::size_t>(depth), '(') + "a" +
           std::string(static_cast<std::size_t>(depth), ')');
  };
  EXPECT_EQ(replace(nested(100).c_str(), "ba"), "b_");
  EXPECT_THROW(replace(nested(100'000).c_str(), "ba"), Error);
}

}  // namespace
}  // namespace powerprefill::text
