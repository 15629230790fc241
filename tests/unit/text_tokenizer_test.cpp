#include <fmt/format.h>
#include <gtest/gtest.h>

#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "powerprefill/tokenizer.hpp"
#include "support/tokenizer_writer.hpp"

namespace powerprefill {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;

Tokenizer make(const std::function<void(json&)>& change = [](json&) {}) {
  json tokenizer = test::small_tokenizer();
  change(tokenizer);
  test::ScratchFolder folder;
  test::write_tokenizer(folder, tokenizer);
  return Tokenizer::load(folder);
}

// Asserts that the tokenizer is refused, with `word` in the message.
void expect_refused(const std::function<void(json&)>& change, const std::string& word) {
  try {
    make(change);
    ADD_FAILURE() << "accepted: " << word;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::input);
    EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("tokenizer.json"), std::string::npos) << error.what();
  }
}

TEST(Tokenizer, merges_words) {
  const Tokenizer tokenizer = make();
  EXPECT_EQ(tokenizer.vocabulary(), 256 + 8 + 2);
  EXPECT_EQ(tokenizer.id_of("\u0120the"), 258);
  EXPECT_EQ(tokenizer.id_of("<|end|>"), 300);
  EXPECT_EQ(tokenizer.id_of("absent"), std::nullopt);
  EXPECT_EQ(tokenizer.encode(" the the"), (Ids{258, 258}));
  EXPECT_EQ(tokenizer.encode("aaaaaaa"), (Ids{260, 259, *tokenizer.id_of("a")}));
  EXPECT_EQ(tokenizer.encode("e\u0301"), Ids{262});  // NFC
  EXPECT_TRUE(tokenizer.encode("").empty());
}

TEST(Tokenizer, special_tokens_by_mode) {
  const Tokenizer tokenizer = make([](json& file) {
    file["post_processor"] = json::parse(R"({"type": "TemplateProcessing", "single": [
      {"SpecialToken": {"id": "<|end|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [300], "tokens": ["<|end|>"]}}})");
  });
  const std::string text = " the<|end|><think>";
  EXPECT_EQ(tokenizer.encode(text), (Ids{300, 258, 300, 301}));
  EXPECT_EQ(tokenizer.encode(text, SpecialTokens::recognised), (Ids{258, 300, 301}));
  const Ids plain = tokenizer.encode(text, SpecialTokens::plain);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), 300), 0);
  EXPECT_EQ(tokenizer.decode(plain), text);
  EXPECT_EQ(tokenizer.decode(Ids{300, 258, 301}), " the<think>");
  EXPECT_EQ(tokenizer.decode(Ids{300, 258}, false), "<|end|> the");
}

TEST(Tokenizer, random_text_survives) {
  const Tokenizer tokenizer = make([](json& file) { file.erase("normalizer"); });
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (std::size_t i = random() % 40; i > 0; --i) {
      const char32_t ranges[] = {0x80, 0x300, 0x3000, 0xD800, 0x110000};
      const auto c = static_cast<char32_t>(random() % ranges[random() % 5]);
      text::append_utf8(text, c >= 0xD800 && c < 0xE000 ? U' ' : c);
    }
    const Ids ids = tokenizer.encode(text, SpecialTokens::plain);
    ASSERT_EQ(tokenizer.decode(ids), text);
    StreamingDecoder stream(tokenizer);
    std::string out;
    for (const std::int32_t id : ids) {
      const std::string some = stream.next(id);
      ASSERT_EQ(text::find_broken(some), std::string::npos);
      out += some;
    }
    ASSERT_EQ(out + stream.finish(), text);
  }
}

TEST(Tokenizer, random_bytes_survive_or_are_refused) {
  const Tokenizer tokenizer = make([](json& file) { file.erase("normalizer"); });
  std::mt19937 random(4);
  int survived = 0;
  for (int round = 0; round < 5000; ++round) {
    std::string bytes(random() % 4, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const std::size_t broken = text::find_broken(bytes);
    if (broken == std::string::npos) {
      ASSERT_EQ(tokenizer.decode(tokenizer.encode(bytes)), bytes);
      ++survived;
      continue;
    }
    try {
      tokenizer.encode(bytes);
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::input);
      EXPECT_NE(std::string(error.what()).find(fmt::format(" {} ", broken)), std::string::npos);
    }
  }
  EXPECT_GT(survived, 500);
}

TEST(Tokenizer, streaming_holds_back_unfinished_characters) {
  const Tokenizer tokenizer = make();
  StreamingDecoder stream(tokenizer);
  EXPECT_EQ(stream.next(0xF0), "");
  EXPECT_EQ(stream.next(0x9F), "");
  EXPECT_EQ(stream.next(0x98), "");
  EXPECT_EQ(stream.next(0x80), "\U0001F600");
  EXPECT_EQ(stream.next(0xC3), "");
  EXPECT_EQ(stream.next('a'), "\uFFFDa");
  EXPECT_EQ(stream.next(9999), "");  // no such token
  EXPECT_EQ(stream.next(-1), "");
  EXPECT_EQ(stream.next(0xE2), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

TEST(Tokenizer, characters_with_byte_fallback) {
  const Tokenizer tokenizer = make([](json& file) {
    json vocabulary = {{"<unk>", 0}, {"\u2581", 257}, {"a", 258}, {"\u2581a", 259}};
    for (int byte = 0; byte < 256; ++byte) {
      char name[8];
      std::snprintf(name, sizeof(name), "<0x%02X>", static_cast<unsigned>(byte));
      vocabulary[name] = byte + 1;
    }
    file["model"] = {{"type", "BPE"},        {"vocab", vocabulary}, {"merges", {"\u2581 a"}},
                     {"unk_token", "<unk>"}, {"fuse_unk", true},    {"byte_fallback", true}};
    file["added_tokens"] = json::array();
    file["pre_tokenizer"] = nullptr;
    file["normalizer"] = json::parse(R"({"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})");
    file["decoder"] = json::parse(R"({"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
      {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})");
  });
  EXPECT_EQ(tokenizer.encode("a a\u00E9"), (Ids{259, 259, 0xC3 + 1, 0xA9 + 1}));
  EXPECT_EQ(tokenizer.decode(Ids{259, 259, 0xC4, 0xAA}), "a a\u00E9");
}

TEST(Tokenizer, what_is_not_supported_is_named) {
  expect_refused([](json& file) { file["model"]["type"] = "Unigram"; }, "Unigram");
  expect_refused([](json& file) { file["model"]["dropout"] = 0.1; }, "dropout");
  expect_refused([](json& file) { file["model"]["end_of_word_suffix"] = "</w>"; },
                 "end_of_word_suffix");
  expect_refused([](json& file) { file["normalizer"]["type"] = "BertNormalizer"; },
                 "BertNormalizer");
  expect_refused([](json& file) { file["decoder"]["type"] = "WordPiece"; }, "WordPiece");
  expect_refused([](json& file) { file["post_processor"]["type"] = "BertProcessing"; },
                 "BertProcessing");
}

TEST(Tokenizer, damage_is_refused) {
  expect_refused([](json& file) { file.erase("model"); }, "model");
  expect_refused([](json& file) { file["model"]["vocab"].erase("a"); }, "merge");
  expect_refused([](json& file) { file["model"]["vocab"].erase("b"); }, "0x62");
  expect_refused([](json& file) { file["model"]["vocab"]["b"] = -1; }, "token id");
  expect_refused([](json& file) { file["model"]["vocab"]["b"] = 4'000'000'000; }, "token id");
  expect_refused([](json& file) { file["model"]["vocab"]["b"] = "x"; }, "token id");
  expect_refused([](json& file) { file["model"]["merges"][0] = "one"; }, "merge 0");
  expect_refused([](json& file) { file["added_tokens"][0]["content"] = "a"; }, "vocabulary");
  expect_refused([](json& file) { file["decoder"] = 3; }, "decoder");
  test::ScratchFolder folder;
  EXPECT_FALSE(Tokenizer::exists(folder));
  EXPECT_THROW(Tokenizer::load(folder), Error);
  test::write_text(folder.path() / "tokenizer.json", "{\"model\": ");
  EXPECT_TRUE(Tokenizer::exists(folder));
  EXPECT_THROW(Tokenizer::load(folder), Error);
  std::filesystem::remove(folder.path() / "tokenizer.json");
  test::write_text(folder.path() / "tokenizer.model", "no model");
  EXPECT_THROW(Tokenizer::load(folder), Error);
}

// Twice the text takes about twice the time; the bounds leave room for slow and busy machines.
TEST(Tokenizer, long_texts_take_linear_time) {
  const Tokenizer tokenizer = make();
  const auto seconds = [&](const std::string& text) {
    const std::clock_t begin = std::clock();
    EXPECT_FALSE(tokenizer.encode(text).empty());
    return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  };
  const auto repeated = [](std::string_view text, std::size_t bytes) {
    std::string out;
    while (out.size() < bytes) out += text;
    return out;
  };
  for (const std::string_view unit : {"a", " ", "\n", "7", " \t", "\u0301\u0323", "\u4E2D", "!",
                                      "<|en", "the quick brown fox "}) {
    EXPECT_LT(seconds(repeated(unit, 1'000'000)), 20) << unit;
  }
}

}  // namespace
}  // namespace powerprefill
