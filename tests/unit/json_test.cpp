#include "json/json.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "powerprefill/error.hpp"

namespace powerprefill {
namespace {

std::string nested(const std::string& open, const std::string& close, int depth) {
  std::string text;
  for (int i = 0; i < depth; ++i) text += open;
  text += "1";
  for (int i = 0; i < depth; ++i) text += close;
  return text;
}

std::string refusal(const std::string& text) {
  try {
    parse_json(text, "a file");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::input);
    return error.what();
  }
  return "";
}

TEST(Json, nesting_is_bounded) {
  EXPECT_EQ(refusal(nested("[", "]", kDeepestJson)), "");
  EXPECT_NE(refusal(nested("[", "]", kDeepestJson + 1)).find("nested deeper"), std::string::npos);
  EXPECT_EQ(refusal(nested("{\"[\":", "}", kDeepestJson)), "");
  EXPECT_NE(refusal(nested("{\"a\":", "}", 200'000)).find("nested deeper"), std::string::npos);
  EXPECT_NE(refusal(nested("[", "", 200'000)).find("nested deeper"), std::string::npos);
  // Brackets in strings, behind escaped quotes too, are text.
  EXPECT_EQ(refusal("[\"\\\"" + std::string(1000, '[') + "\"]"), "");
}

TEST(Json, what_is_no_value_is_refused_with_a_short_message) {
  const std::string invalid[] = {"",    "[1,",        "1e999",       "[-1e999]", "\"\xFF\"",
                                 "nul", "{\"a\": 1]", "\"\\uD800\"", "1 2"};
  for (const std::string& text : invalid) {
    EXPECT_NE(refusal(text).find("a file is not valid JSON"), std::string::npos) << text;
    EXPECT_THROW(parse_json(text), std::invalid_argument);
  }
  EXPECT_LT(refusal("[\"" + std::string(1 << 20, 'x')).size(), 500U);
}

TEST(Json, quoted_values_are_short_and_whole_characters) {
  EXPECT_EQ(quoted(parse_json("[1, \"\\u0000\"]")), "[1,\"\\u0000\"]");
  std::string wide;
  for (int i = 0; i < 1000; ++i) wide += "\u20AC";
  for (const char* before : {"", "a", "ab"}) {
    const std::string text = quoted(nlohmann::json(before + wide));
    EXPECT_LE(text.size(), 83U);
    EXPECT_TRUE(text.ends_with("\u20AC...")) << text;
  }
}

}  // namespace
}  // namespace powerprefill
