// Tokenizer files that ask for too much end with an error, and soon.
#include <gtest/gtest.h>

#include <ctime>
#include <nlohmann/json.hpp>
#include <string>

#include "powerprefill/tokenizer.hpp"
#include "support/checkpoint_writer.hpp"
#include "support/tokenizer_writer.hpp"
#include "text/regex/split.hpp"

namespace powerprefill::text {
namespace {

double seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

std::string times(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

// The message with which a text of some kind is refused, or "".
std::string refusal(const nlohmann::json& tokenizer, const std::string& text) {
  const test::ScratchFolder folder;
  test::write_tokenizer(folder.path(), tokenizer);
  try {
    Tokenizer::load(folder.path()).encode(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::input);
    EXPECT_LT(std::string(error.what()).size(), 1000U);
    return error.what();
  }
  return "";
}

std::string refusal_with(const char* key, const nlohmann::json& value,
                         const std::string& text = "some text") {
  nlohmann::json tokenizer = test::small_tokenizer();
  tokenizer[key] = value;
  return refusal(tokenizer, text);
}

TEST(HostileTokenizer, matching_ends) {
  const std::string text = times("a", 200'000) + "!bc";
  for (const char* pattern :
       {"(a+)+[bc]", "(?:a|a)*[bc]", "(?:a?a?)*[bc]", "(?:(?:a*)*)*[bc]", "a*a*a*a*a*a*[bc]",
        "(?:a|aa|aaa)+[bc]", ".*.*.*.*=[bc]", "(?=(?:a|a)*[bc])"}) {
    const Split rule = {Regex::from_oniguruma(pattern, "test"), SplitBehavior::isolated};
    RegexScratch scratch;
    const double begin = seconds();
    EXPECT_THROW(split_text(text, rule, scratch, [](std::string_view) {}), Error) << pattern;
    EXPECT_LT(seconds() - begin, 20) << pattern;
  }
}

TEST(HostileTokenizer, nested_values) {
  const std::string deep = times("[", 200'000) + times("]", 200'000);
  const test::ScratchFolder folder;
  test::write_text(folder.path() / "tokenizer.json", "{\"model\": " + deep + "}");
  EXPECT_THROW(Tokenizer::load(folder.path()), Error);
  test::write_tokenizer(folder.path(), test::small_tokenizer());
  test::write_text(folder.path() / "tokenizer_config.json", "{\"legacy\": " + deep + "}");
  EXPECT_THROW(Tokenizer::load(folder.path()), Error);
  // At the deepest that is read, in a place whose value a message quotes.
  nlohmann::json vocabulary = {{"a", nlohmann::json::parse(times("[", 120) + times("]", 120))}};
  nlohmann::json tokenizer = test::small_tokenizer();
  tokenizer["model"]["vocab"] = vocabulary;
  EXPECT_NE(refusal(tokenizer, "").find("is not a token id"), std::string::npos);
}

TEST(HostileTokenizer, numbers_beyond_a_double) {
  const test::ScratchFolder folder;
  std::string text = test::small_tokenizer().dump();
  text.insert(1, "\"a\": 1e999, ");
  test::write_text(folder.path() / "tokenizer.json", text);
  EXPECT_THROW(Tokenizer::load(folder.path()), Error);
}

TEST(HostileTokenizer, too_many_steps) {
  const auto sequence = [](const char* key, const nlohmann::json& part) {
    nlohmann::json parts = nlohmann::json::array();
    for (int i = 0; i < 100'000; ++i) parts.push_back(part);
    return nlohmann::json{{"type", "Sequence"}, {key, parts}};
  };
  const nlohmann::json replace = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "b"}};
  EXPECT_NE(refusal_with("pre_tokenizer", sequence("pretokenizers", {{"type", "Digits"}})), "");
  EXPECT_NE(refusal_with("normalizer", sequence("normalizers", replace)), "");
  EXPECT_NE(refusal_with("decoder", sequence("decoders", replace)), "");
  const nlohmann::json around = {
      {"type", "TemplateProcessing"},
      {"single", {{{"SpecialToken", {{"id", "x"}}}}, {{"Sequence", {{"id", "A"}}}}}},
      {"special_tokens", {{"x", {{"ids", nlohmann::json(std::vector<int>(2000, 1))}}}}}};
  EXPECT_NE(refusal_with("post_processor", around), "");
}

TEST(HostileTokenizer, growth) {
  const std::string large(1 << 20, 'x');
  const auto replace = [&](const char* kind, const char* pattern) {
    return nlohmann::json{{"type", "Replace"}, {"pattern", {{kind, pattern}}}, {"content", large}};
  };
  EXPECT_NE(refusal_with("normalizer", replace("String", "")), "");
  EXPECT_NE(refusal_with("normalizer", replace("String", "e")), "");
  EXPECT_NE(refusal_with("normalizer", replace("Regex", "(?=e)")), "");
  EXPECT_NE(refusal_with("normalizer", {{"type", "Prepend"}, {"prepend", large}}), "");
  EXPECT_NE(refusal_with("decoder", replace("String", "h")), "");
  EXPECT_NE(refusal_with("pre_tokenizer",
                         {{"type", "Metaspace"}, {"replacement", large}, {"split", true}}),
            "");
  // Steps that are small each, together: 2^40 times the text.
  nlohmann::json doubling = nlohmann::json::array();
  for (int i = 0; i < 40; ++i) {
    doubling.push_back({{"type", "Replace"}, {"pattern", {{"String", "e"}}}, {"content", "ee"}});
  }
  EXPECT_NE(refusal_with("normalizer", {{"type", "Sequence"}, {"normalizers", doubling}}), "");
  for (auto& step : doubling) {
    step["pattern"]["String"] = "h";
    step["content"] = "hh";
  }
  EXPECT_NE(refusal_with("decoder", {{"type", "Sequence"}, {"decoders", doubling}})
                .find("the decoder of the tokenizer makes"),
            std::string::npos);
  // A prefix for each piece, and each character a piece: 2^10 times at least the text.
  nlohmann::json prefixes = nlohmann::json::array();
  for (int i = 0; i < 20; ++i) {
    prefixes.push_back({{"type", "Metaspace"},
                        {"replacement", i % 2 ? "a" : "z"},
                        {"prepend_scheme", "always"},
                        {"split", false}});
    prefixes.push_back({{"type", "Split"},
                        {"pattern", {{"Regex", "\\S"}}},
                        {"behavior", "Isolated"},
                        {"invert", false}});
  }
  EXPECT_NE(refusal_with("pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", prefixes}})
                .find("the pre-tokenizer of the tokenizer makes"),
            std::string::npos);
  // What published ones do is far from the bounds.
  EXPECT_EQ(refusal_with("normalizer", {{"type", "NFKD"}}, times("\uFDFA", 1000)), "");
}

TEST(HostileTokenizer, long_added_tokens) {
  nlohmann::json tokenizer = test::small_tokenizer();
  tokenizer["added_tokens"].push_back({{"id", 302}, {"content", std::string(1 << 20, 'x')}});
  EXPECT_NE(refusal(tokenizer, "text").find("the added token"), std::string::npos);
}

TEST(HostileTokenizer, a_model_on_which_sentencepiece_throws) {
  // Two pieces: the unknown one, and one that begins with a NUL.
  const std::string model(
      "\x0A\x09\x0A\x05<unk>\x18\x02\x0A\x09\x0A\x02\x00"
      "a\x15\0\0\0\0",
      22);
  const test::ScratchFolder folder;
  test::write_text(folder.path() / "tokenizer.model", model);
  try {
    Tokenizer::load(folder.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::input);
    EXPECT_NE(std::string(error.what()).find("tokenizer.model"), std::string::npos);
  }
}

TEST(HostileTokenizer, ordinary_patterns_have_steps_for_any_text) {
  nlohmann::json tokenizer = test::small_tokenizer();
  for (const char* unit : {" ", "\n", "a", "\u4E2D", "1", "!", "\u0301", " \n", "a "}) {
    EXPECT_EQ(refusal(tokenizer, times(unit, 1'000'000)), "") << unit;
  }
}

}  // namespace
}  // namespace powerprefill::text
