#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "text/added_tokens.hpp"

namespace powerprefill::text {
namespace {

// Text as it is, tokens as "#ID".
std::vector<std::string> cut(std::vector<AddedToken> tokens, const std::string& text,
                             bool plain_special = false) {
  std::vector<std::string> parts;
  TokenMatcher(std::move(tokens))
      .run(
          text, plain_special, [&](std::string_view piece) { parts.emplace_back(piece); },
          [&](const AddedToken& token) { parts.push_back(fmt::format("#{}", token.id)); });
  return parts;
}

using Parts = std::vector<std::string>;

TEST(TokenMatcher, leftmost_and_longest) {
  const std::vector<AddedToken> tokens = {
      {.id = 1, .content = "<a>"}, {.id = 2, .content = "<a>b"}, {.id = 3, .content = "b<"}};
  EXPECT_EQ(cut(tokens, "x<a>b<a>c"), (Parts{"x", "#2", "#1", "c"}));
  EXPECT_EQ(cut(tokens, "b<a>"), (Parts{"#3", "a>"}));
  EXPECT_EQ(cut(tokens, "<a><a"), (Parts{"#1", "<a"}));
  EXPECT_EQ(cut(tokens, ""), Parts{});
  EXPECT_EQ(cut({}, "text"), Parts{"text"});
}

TEST(TokenMatcher, plain_special_tokens_are_text) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "<s>", .special = true},
                                          {.id = 2, .content = "<tool>"}};
  EXPECT_EQ(cut(tokens, "a<s>b<tool>"), (Parts{"a", "#1", "b", "#2"}));
  EXPECT_EQ(cut(tokens, "a<s>b<tool>", true), (Parts{"a<s>b", "#2"}));
}

TEST(TokenMatcher, white_space_goes_along) {
  const std::vector<AddedToken> left = {{.id = 1, .content = "<m>", .left_strip = true}};
  const std::vector<AddedToken> right = {{.id = 1, .content = "<m>", .right_strip = true}};
  EXPECT_EQ(cut(left, "a \u00A0<m> b"), (Parts{"a", "#1", " b"}));
  EXPECT_EQ(cut(right, "a <m> \n\u3000b"), (Parts{"a ", "#1", "b"}));
  EXPECT_EQ(cut(left, " <m> <m>"), (Parts{"#1", "#1"}));
}

TEST(TokenMatcher, single_words) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "ab", .single_word = true}};
  EXPECT_EQ(cut(tokens, "ab cab ab. abé éab"), (Parts{"#1", " cab ", "#1", ". abé éab"}));
}

}  // namespace
}  // namespace powerprefill::text
