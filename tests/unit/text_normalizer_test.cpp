#include <gtest/gtest.h>

#include <ctime>
#include <string>

#include "powerprefill/error.hpp"
#include "text/file_checks.hpp"
#include "text/normalizer.hpp"
#include "text/unicode/forms.hpp"

namespace powerprefill::text {
namespace {

constexpr UnicodeForm kNfc{.compose = true, .compatibility = false};
constexpr UnicodeForm kNfd{.compose = false, .compatibility = false};
constexpr UnicodeForm kNfkc{.compose = true, .compatibility = true};

std::string normalize(const std::string& json, const std::string& text) {
  const auto parsed = nlohmann::json::parse(json);
  RegexScratch scratch;
  return Normalizer(tokenizer_fields(parsed, "test"))(text, scratch);
}

// From the examples of UAX #15.
TEST(UnicodeForms, compose_and_decompose) {
  EXPECT_EQ(to_unicode_form("plain", kNfc), "plain");
  EXPECT_EQ(to_unicode_form("", kNfc), "");
  EXPECT_EQ(to_unicode_form("cafe\u0301 e\u0301", kNfc), "caf\u00E9 \u00E9");
  EXPECT_EQ(to_unicode_form("caf\u00E9", kNfd), "cafe\u0301");
  EXPECT_EQ(to_unicode_form("\u212B", kNfc), "\u00C5");
  EXPECT_EQ(to_unicode_form("\uFB01", kNfc), "\uFB01");
  EXPECT_EQ(to_unicode_form("\uFB01", kNfkc), "fi");
  EXPECT_EQ(to_unicode_form("q\u0307\u0323", kNfc), "q\u0323\u0307");  // marks are put in order
  EXPECT_EQ(to_unicode_form("\u1E0B\u0323", kNfc), "\u1E0D\u0307");
  EXPECT_EQ(to_unicode_form("\u1100\u1161\u11A8", kNfc), "\uAC01");  // Hangul
  EXPECT_EQ(to_unicode_form("\u0344", kNfc), "\u0308\u0301");        // excluded from composition
  EXPECT_EQ(to_unicode_form("\u0958", kNfc), "\u0915\u093C");
  EXPECT_EQ(to_unicode_form("<\u0338 =\u0338", kNfc), "\u226E \u2260");
}

TEST(UnicodeForms, many_marks_take_no_quadratic_time) {
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i) text += "\u0301\u0323";
  const std::clock_t begin = std::clock();
  const std::string result = to_unicode_form(text, kNfc);
  EXPECT_TRUE(result.starts_with("\u1EA1\u0323"));
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 20);
}

TEST(Normalizer, steps) {
  EXPECT_EQ(normalize(R"({"type": "Lowercase"})", "ÀB\u0130"), "àbi\u0307");
  EXPECT_EQ(
      normalize(R"({"type": "Strip", "strip_left": false, "strip_right": true})", " a \u3000"),
      " a");
  EXPECT_EQ(normalize(R"({"type": "Strip"})", " \u00A0 "), "");
  EXPECT_EQ(normalize(R"({"type": "Sequence", "normalizers": [
              {"type": "Prepend", "prepend": "_"},
              {"type": "Replace", "pattern": {"String": " "}, "content": "_"}]})",
                      "a b"),
            "_a_b");
  EXPECT_EQ(normalize(R"({"type": "Prepend", "prepend": "_"})", ""), "");
  EXPECT_EQ(normalize(R"({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "-"})",
                      "a  b c   "),
            "a-b c-");
}

TEST(Normalizer, others_are_refused_by_name) {
  try {
    normalize(R"({"type": "Precompiled", "precompiled_charsmap": ""})", "");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::input);
    EXPECT_NE(std::string(error.what()).find("Precompiled"), std::string::npos);
  }
}

}  // namespace
}  // namespace powerprefill::text
